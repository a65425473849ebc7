"""The lesion test: whether what is put into a source shows in the prediction, and what is taken out leaves it.

Insertion: a sphere S of contrast c is put into the source x. With D(S) the mean over S of the magnitudes of the change,
D_x of the source, D_y of the prediction, D_m of a mapping of single intensities, and R the shell around S,

    S is preserved  <=>  D_y(S) >= 0.5 min(D_x(S), D_m(S))  and  D_y(S) >= 2 D_y(R).

The minimum, since a target may show a contrast weaker than the source does; the shell, since a prediction that changes
everywhere shows no sphere.

Removal: lesions L are filled with their surroundings. With C(L) = mean over L - mean over the shell around L in the
target (t), the prediction (y) and the prediction without lesions (y'), and s the sign of the contrast in question,

    L is shown  <=>  s C_y(L) >= |C_t(L)| / 2,        L is invented  <=>  s C_y'(L) >= |C_y(L)| / 2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

__all__ = ["CONTRASTS", "RADII", "Insertion", "Removal", "insertions", "lesion_summary", "removals"]


CONTRASTS = (-0.3, 0.3, 0.5)
"""What is added to the source, in its [0, 1]: darker, brighter, much brighter."""

RADII = (2, 3, 4, 5, 6)
"""Of the spheres, in voxels."""

_RESPONSE = 0.5  # of the change that is expected, that a prediction must change by
_LOCAL = 2.0  # times the change of its surroundings, that a sphere's own change must reach
_LEAST_CHANGE = 0.1  # of the source, below which an insertion is none: a bright voxel cannot become much brighter
_SURROUNDINGS = (2, 5)  # voxels beyond a region's border between which its surroundings lie
_FAR = 8  # voxels beyond the border, where nothing should change
_VISIBLE = 0.05  # of the spread of intensities in the foreground: the least contrast that counts as one
_LEAST_SPREAD = 0.02  # so that noise in an empty image is no contrast
_LEAST_LESION = 8  # voxels
_LEAST_SHARE = 0.8

Translate = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Insertion:
    """One sphere that was put into a source; changes are means of magnitudes over voxels.

    Args:
        contrast: that was asked for.
        radius: in voxels.
        source_change: of the source in the sphere.
        expected_change: of a mere mapping of intensities there.
        change: of the prediction there.
        surrounding_change: of the prediction in the sphere's surroundings.
        elsewhere: whether the prediction changed by half of what may be asked for, visibly, in half as many voxels far
            from all spheres.
    """

    contrast: float
    radius: int
    source_change: float
    expected_change: float
    change: float
    surrounding_change: float
    elsewhere: bool

    @property
    def preserved(self) -> bool:
        """Whether the sphere shows in the prediction: half of what may be asked for, twice its surroundings."""
        required = _RESPONSE * min(self.source_change, self.expected_change)
        return self.change >= required and self.change >= _LOCAL * self.surrounding_change


@dataclass(frozen=True)
class Removal:
    """One lesion that was taken out of a source, by its contrasts to its surroundings.

    Args:
        target: in the target; None without one.
        before: in the prediction.
        after: in the prediction of the source without the lesion.
        visible: the least contrast that counts as one.
    """

    target: float | None
    before: float
    after: float
    visible: float

    @property
    def shown(self) -> bool | None:
        """Whether a lesion that the target shows is shown by the prediction, with half its contrast or more."""
        return None if self.target is None else self._half_of(self.target, self.before)

    @property
    def invented(self) -> bool | None:
        """Whether a lesion that the prediction shows is still there once the source has none."""
        return self._half_of(self.before, self.after)

    def _half_of(self, contrast: float, other: float) -> bool | None:
        """Whether `other` has half a contrast or more, with its sign; None where the contrast is none."""
        if abs(contrast) < self.visible:
            return None
        return bool(other * np.sign(contrast) >= abs(contrast) / 2)


def insertions(
    source: np.ndarray,
    prediction: np.ndarray,
    inside: np.ndarray,
    translate: Translate,
    map_intensities: Translate,
    *,
    rng: np.random.Generator,
    spheres: int = 5,
) -> Iterator[Insertion]:
    """Put spheres into a source, translate it again, and look at what became of each: a translation for each contrast.

    A sphere whose intensities mean, on average, the same in the target as what it replaces cannot be asked to show;
    such spheres are not counted.

    Args:
        source: `(c, i, j, k)` in [0, 1]; all channels get the spheres.
        prediction: `(c, i, j, k)` in [0, 1], of the source as it is.
        inside: `(i, j, k)` booleans, where spheres may lie.
        translate: from a source to its prediction.
        map_intensities: the same by a mere mapping of intensities, learnt from training cases.
        rng: draws the places.
        spheres: at most so many in a volume, none near another.
    """
    mapped, visible = map_intensities(source), _VISIBLE * _spread(prediction, inside)
    for contrast in CONTRASTS:
        places = _places(inside, rng, spheres)
        if not places:
            return
        changed = source.copy()
        regions = [_sphere(inside.shape, centre, radius) for centre, radius in places]
        for region in regions:
            changed[:, region] = np.clip(source[:, region] + contrast, 0, 1)
        # D_y, D_x and D_m of the module's formulas: of several channels the one that changes most counts.
        change = np.abs(translate(changed) - prediction).max(axis=0)
        source_change = np.abs(changed - source).max(axis=0)
        expected_change = np.abs(map_intensities(changed) - mapped).max(axis=0)
        far = ndimage.distance_transform_edt(~np.logical_or.reduce(regions)) > _FAR
        for (_, radius), region in zip(places, regions, strict=True):
            given, expected = float(source_change[region].mean()), float(expected_change[region].mean())
            if given < _LEAST_CHANGE or expected < visible:
                continue
            strong = int(np.count_nonzero(change[far] >= max(visible, min(given, expected) / 2)))
            around = change[_shell(region)]
            yield Insertion(
                contrast,
                radius,
                given,
                expected,
                float(change[region].mean()),
                float(around.mean()) if around.size else 0.0,
                strong >= int(region.sum()) / 2,
            )


def removals(
    source: np.ndarray,
    prediction: np.ndarray,
    target: np.ndarray | None,
    lesions: np.ndarray,
    inside: np.ndarray,
    translate: Translate,
    *,
    most: int = 5,
) -> Iterator[Removal]:
    """Fill a source's lesions with what surrounds them, translate it again, and look where they were.

    Args:
        source: `(c, i, j, k)` in [0, 1].
        prediction: `(c, i, j, k)` in [0, 1], of the source as it is.
        target: likewise, or None.
        lesions: `(i, j, k)` booleans.
        inside: `(i, j, k)` booleans, the foreground.
        translate: from a source to its prediction.
        most: lesions looked at, the largest; all are taken out.
    """
    numbered, count = ndimage.label(lesions)
    sizes = ndimage.sum_labels(lesions, numbered, np.arange(1, count + 1))
    chosen = [int(place) + 1 for place in np.argsort(-sizes)[:most] if sizes[place] >= _LEAST_LESION]
    if not chosen:
        return
    visible = _VISIBLE * _spread(prediction if target is None else target, inside)
    # A voxel wider than the lesions: partial volume at a border would show the translator where they were.
    widened = ndimage.binary_dilation(lesions)
    without = translate(np.stack([_filled(channel, widened) for channel in source]))
    for number in chosen:
        region = numbered == number
        shell = _shell(region) & ~widened
        if not shell.any():
            continue
        before, after = (_contrast(volume, region, shell) for volume in (prediction, without))
        channel = int(np.argmax(np.abs(before)))
        true = None if target is None else float(_contrast(target, region, shell)[channel])
        yield Removal(true, float(before[channel]), float(after[channel]), visible)


def lesion_summary(inserted: Sequence[Insertion], removed: Sequence[Removal]) -> dict[str, Any]:
    """What the tests of several cases say together; shares are in percent, None where nothing was tested.

    Returns:
        "inserted" (spheres), "preserved_percent", "preserved_by_contrast", "elsewhere_percent" (spheres whose insertion
        changed the prediction far away), "removed" (lesions), "shown_percent", "invented_percent" and "flagged": fewer
        than 80 % are preserved or shown, or more than 20 % are invented or show elsewhere.
    """
    shown = [bool(one.shown) for one in removed if one.shown is not None]
    invented = [bool(one.invented) for one in removed if one.invented is not None]
    shares = {
        "preserved_percent": _percent([one.preserved for one in inserted]),
        "elsewhere_percent": _percent([one.elsewhere for one in inserted]),
        "shown_percent": _percent(shown),
        "invented_percent": _percent(invented),
    }
    kept = [shares["preserved_percent"], shares["shown_percent"]]
    wrong = [shares["elsewhere_percent"], shares["invented_percent"]]
    least = 100 * _LEAST_SHARE
    return {
        "inserted": len(inserted),
        "removed": len(removed),
        **shares,
        "preserved_by_contrast": {
            f"{contrast:+g}": _percent([one.preserved for one in inserted if one.contrast == contrast])
            for contrast in CONTRASTS
        },
        "flagged": any(share is not None and share < least for share in kept)
        or any(share is not None and share > 100 - least for share in wrong),
    }


def _places(inside: np.ndarray, rng: np.random.Generator, spheres: int) -> list[tuple[tuple[int, int, int], int]]:
    """Centres and radii of spheres that lie inside and apart from each other."""
    # A border of outside, so that a sphere does not reach over the volume's edge.
    depth = ndimage.distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1, 1:-1]
    places: list[tuple[tuple[int, int, int], int]] = []
    for radius in rng.permutation(np.resize(RADII, spheres)):
        free = np.flatnonzero(depth > radius)
        if not free.size:
            continue
        i, j, k = (int(index) for index in np.unravel_index(rng.choice(free), inside.shape))
        places.append(((i, j, k), int(radius)))
        reach = _sphere(inside.shape, (i, j, k), int(radius) + _SURROUNDINGS[1] + max(RADII))
        depth[reach] = 0
    return places


def _sphere(shape: Sequence[int], centre: Sequence[int], radius: int) -> np.ndarray:
    i, j, k = (np.arange(side) - at for side, at in zip(shape, centre, strict=True))
    return np.asarray(i[:, None, None] ** 2 + j[:, None] ** 2 + k**2 <= radius**2)


def _shell(region: np.ndarray) -> np.ndarray:
    near, far = _SURROUNDINGS
    distance = ndimage.distance_transform_edt(~region)
    return np.asarray((distance > near) & (distance <= far))


def _contrast(volume: np.ndarray, region: np.ndarray, shell: np.ndarray) -> np.ndarray:
    """By channel, how much brighter a region is than its surroundings."""
    return np.asarray(volume[:, region].mean(axis=1) - volume[:, shell].mean(axis=1))


def _filled(channel: np.ndarray, region: np.ndarray) -> np.ndarray:
    """The channel with the region filled by its nearest surroundings, smoothed within it."""
    nearest = ndimage.distance_transform_edt(region, return_distances=False, return_indices=True)
    copied = channel[tuple(np.asarray(nearest))]
    return np.where(region, ndimage.gaussian_filter(copied, 1.5), channel).astype(channel.dtype)


def _spread(volume: np.ndarray, inside: np.ndarray) -> float:
    """Between the 1st and 99th percentiles of the foreground, of the channel with the widest; never nothing."""
    low, high = np.percentile(volume[:, inside], (1, 99), axis=1)
    return max(float((high - low).max()), _LEAST_SPREAD)


def _percent(verdicts: Sequence[bool]) -> float | None:
    return 100 * float(np.mean(verdicts)) if verdicts else None
