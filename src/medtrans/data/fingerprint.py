"""The fingerprint of the training cases, and the warning where a source is unlike all of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from nibabel.orientations import aff2axcodes

from medtrans.data.preprocessing import Prepared
from medtrans.data.sampling import patch_centres
from medtrans.plugins.interfaces import Preprocess
from medtrans.volume.resampling import canonical

__all__ = ["Fingerprint", "block_means", "correlation"]


def block_means(volume: np.ndarray, blocks: int = 8) -> np.ndarray:
    """The means of `blocks`^3 equal blocks of a volume `(i, j, k)`; sides shorter than that repeat voxels."""
    for axis in range(3):
        side = volume.shape[axis]
        if side < blocks:
            volume = np.repeat(volume, -(-blocks // side), axis=axis)
            side = volume.shape[axis]
        edges = np.linspace(0, side, blocks + 1).round().astype(int)
        sums = np.add.reduceat(volume, edges[:-1], axis=axis, dtype=np.float64)
        counts = np.diff(edges).reshape([-1 if other == axis else 1 for other in range(3)])
        volume = sums / counts
    return np.asarray(volume)


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Pearson's, over all elements; 1 for two that are equal, 0 where just one is constant."""
    one, two = (np.asarray(each, dtype=np.float64).ravel() for each in (first, second))
    one, two = one - one.mean(), two - two.mean()
    size = float(np.linalg.norm(one) * np.linalg.norm(two))
    if size == 0:
        return 1.0 if np.array_equal(first, second) else 0.0
    return float(np.clip(one @ two / size, -1, 1))


_LIMIT = 6.0  # robust z-score beyond which a number is out of distribution
_BINS = 64
_SAMPLE = 200_000  # voxels of a volume that are looked at
_PERCENTILES = (0.5, 50.0, 99.5)
# The least spread that is believed, as share of the median or of the intensities' range, or as it stands: trainings
# whose cases all agree would otherwise find everything else strange.
_LEAST_SHARE = {"spacing": 0.05, "sides": 0.1}
_LEAST = {"foreground": 0.03, "histogram": 0.01, "layout": 0.02}


class _Features(NamedTuple):
    """What one case looks like: plain numbers, and by modality a histogram and coarse block means."""

    numbers: dict[str, float]
    orientation: str
    histograms: dict[str, np.ndarray]
    layouts: dict[str, np.ndarray]


@dataclass(frozen=True)
class Fingerprint:
    """What the sources a run was trained on look like: numbers only, which name nobody.

    A number's robust z-score is its distance from the training median over 1.4826 times the median absolute deviation
    (or over a least spread, whichever is larger; both widened where training cases are few).

    Args:
        data: plain values, as `as_data` gives them.
    """

    data: Mapping[str, Any]

    @classmethod
    def of(
        cls, cases: Iterable[Prepared], scalings: Mapping[str, Preprocess], sources: Sequence[str]
    ) -> Fingerprint | None:
        """The fingerprint of training cases; None without any.

        It holds the voxel spacing and sides, orientations, percentiles 0.5, 50 and 99.5 of each source in native
        intensities, the share of foreground, each source's mean histogram and coarse look, and how far single cases
        lie from the mean of the others.
        """
        features = [_features(case, scalings, sources) for case in cases]
        if not features:
            return None
        distances: list[dict[str, float]] = [{} for _ in features]
        means: dict[str, dict[str, list[float]]] = {"histograms": {}, "layouts": {}}
        for source in sources:
            histograms = np.stack([one.histograms[source] for one in features])
            layouts = np.stack([one.layouts[source] for one in features])
            means["histograms"][source] = histograms.mean(0).tolist()
            means["layouts"][source] = layouts.mean(0).ravel().tolist()
            for place, own in enumerate(distances):
                own |= _distances(
                    source, histograms[place], layouts[place], _of_others(histograms, place), _of_others(layouts, place)
                )
        numbers = [{**one.numbers, **own} for one, own in zip(features, distances, strict=True)]
        return cls(
            {
                "cases": len(features),
                "numbers": {name: _spread(name, [one[name] for one in numbers], numbers) for name in numbers[0]},
                "orientations": sorted({one.orientation for one in features}),
                **means,
            }
        )

    def as_data(self) -> dict[str, Any]:
        """Plain values that JSON and a checkpoint can hold."""
        return dict(self.data)

    def remarks(self, case: Prepared, scalings: Mapping[str, Preprocess], sources: Sequence[str]) -> list[str]:
        """In what a case is unlike the training cases, in words; nothing where it is like them."""
        one = _features(case, scalings, sources)
        numbers = dict(one.numbers)
        for source in sources:
            histogram = np.asarray(self.data["histograms"][source])
            layout = np.asarray(self.data["layouts"][source]).reshape(one.layouts[source].shape)
            numbers |= _distances(source, one.histograms[source], one.layouts[source], histogram, layout)
        found = [
            remark
            for name, value in numbers.items()
            if name in self.data["numbers"] and (remark := _remark(name, value, self.data["numbers"][name]))
        ]
        if one.orientation not in self.data["orientations"]:
            found.append(
                f"axes stored as {one.orientation}, those of training as {', '.join(self.data['orientations'])}"
            )
        return found


def _features(case: Prepared, scalings: Mapping[str, Preprocess], sources: Sequence[str]) -> _Features:
    native = canonical(case.native)
    numbers = {f"spacing {axis} [mm]": float(step) for axis, step in zip("ijk", native.spacing_mm, strict=True)}
    numbers |= {f"sides {axis} [voxels]": float(side) for axis, side in zip("ijk", native.shape, strict=True)}
    share = float(patch_centres(np.asarray(case.source), None).mean())
    kept = np.prod(case.grid.shape) * abs(np.linalg.det(case.grid.affine[:3, :3]))
    whole = np.prod(native.shape) * abs(np.linalg.det(native.affine[:3, :3]))
    numbers["foreground share"] = share * float(kept / whole)
    histograms, layouts = {}, {}
    for channel, source in zip(case.source, sources, strict=True):
        scaled = np.asarray(channel, dtype=np.float32)
        some = scaled.ravel()[:: max(1, scaled.size // _SAMPLE)]
        intensities = scalings[source].invert(some.reshape(1, 1, -1), case.numbers[source])
        for percentile, value in zip(_PERCENTILES, np.percentile(intensities, _PERCENTILES), strict=True):
            numbers[f"{source} percentile {percentile:g}"] = float(value)
        counts, _ = np.histogram(some, bins=_BINS, range=(0, 1))
        histograms[source] = counts / max(1, counts.sum())
        layouts[source] = block_means(scaled)
    orientation = "".join(aff2axcodes(case.native.affine))  # type: ignore[no-untyped-call]  # nibabel leaves it untyped
    return _Features(numbers, orientation, histograms, layouts)


def _distances(
    source: str, histogram: np.ndarray, layout: np.ndarray, usual_histogram: np.ndarray, usual_layout: np.ndarray
) -> dict[str, float]:
    apart = 1.0
    if histogram.sum() > 0 and usual_histogram.sum() > 0:
        # The first Wasserstein distance: the area between the two distribution functions.
        functions = (np.cumsum(one) / np.sum(one) for one in (histogram, usual_histogram))
        apart = float(np.abs(np.subtract(*functions)).sum() / _BINS)
    return {
        f"{source} histogram distance": apart,
        f"{source} layout distance": 1 - correlation(layout, usual_layout),
    }


def _of_others(values: np.ndarray, place: int) -> np.ndarray:
    others = np.delete(values, place, axis=0)
    return np.asarray((others if len(others) else values).mean(0))


def _spread(name: str, values: Sequence[float], numbers: Sequence[Mapping[str, float]]) -> dict[str, float]:
    median = float(np.median(values))
    deviation = 1.4826 * float(np.median(np.abs(np.asarray(values) - median)))
    widened = 1 + 4 / len(values)
    return {"median": median, "spread": widened * max(deviation, _least(name, median, numbers))}


def _least(name: str, median: float, numbers: Sequence[Mapping[str, float]]) -> float:
    if " percentile " in name:
        source = name.partition(" percentile ")[0]
        ends = [np.median([one[f"{source} percentile {end:g}"] for one in numbers]) for end in (0.5, 99.5)]
        return max(0.05 * float(ends[1] - ends[0]), 1e-9)
    for kind, share in _LEAST_SHARE.items():
        if name.startswith(kind):
            return share * abs(median)
    return next(least for kind, least in _LEAST.items() if kind in name)


def _remark(name: str, value: float, usual: Mapping[str, float]) -> str | None:
    distance = value - usual["median"]
    if "distance" in name and distance < 0:
        return None  # nearer to the mean than training cases are
    score = abs(distance) / usual["spread"]
    if score <= _LIMIT:
        return None
    return f"{name} {value:.4g}, in training {usual['median']:.4g} (robust z {score:.0f})"
