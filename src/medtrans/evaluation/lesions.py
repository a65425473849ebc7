"""The lesion test: whether what is put into a source shows in the prediction, and what is taken out leaves it."""

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
_ROOM = 0.1  # least change of the source that counts as one
_SURROUNDINGS = (2, 5)  # voxels beyond a region's border between which its surroundings lie
_FAR = 8  # voxels beyond the border, where nothing should change
_VISIBLE = 0.05  # of the spread of intensities in the foreground: the least contrast that counts as one
_LEAST_SPREAD = 0.02  # so that noise in an empty image is no contrast
_LEAST_LESION = 8  # voxels
_LEAST_SHARE = 0.8

Translate = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Insertion:
    """One sphere that was put into a source.

    Args:
        contrast: that was asked for.
        radius: in voxels.
        given: how much the source changed in the sphere, the mean of the magnitudes.
        expected: how much a mere mapping of intensities would have changed there.
        answered: how much the prediction changed there.
        around: how much it changed in the sphere's surroundings.
        elsewhere: whether it changed by half of what may be asked for, visibly, in half as many voxels far from all
            spheres.
    """

    contrast: float
    radius: int
    given: float
    expected: float
    answered: float
    around: float
    elsewhere: bool

    @property
    def preserved(self) -> bool:
        """Whether the sphere shows in the prediction: half of what may be asked for, twice its surroundings."""
        asked = min(self.given, self.expected)
        return self.answered >= _RESPONSE * asked and self.answered >= _LOCAL * self.around


@dataclass(frozen=True)
class Removal:
    """One lesion that was taken out of a source.

    Args:
        true: contrast of the lesion to its surroundings in the target; None without a target.
        before: in the prediction.
        after: in the prediction of the source without it.
        visible: the least contrast that counts as one.
    """

    true: float | None
    before: float
    after: float
    visible: float

    @property
    def shown(self) -> bool | None:
        """Whether a lesion that the target shows is shown by the prediction, with half its contrast or more."""
        if self.true is None or abs(self.true) < self.visible:
            return None
        return bool(self.before * np.sign(self.true) >= abs(self.true) / 2)

    @property
    def invented(self) -> bool | None:
        """Whether a lesion that the prediction shows is still there once the source has none."""
        if abs(self.before) < self.visible:
            return None
        return bool(self.after * np.sign(self.before) >= abs(self.before) / 2)


def insertions(
    source: np.ndarray,
    prediction: np.ndarray,
    inside: np.ndarray,
    translate: Translate,
    mapped: Translate,
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
        mapped: the same by a mere mapping of intensities, learnt from training cases.
        rng: draws the places.
        spheres: at most so many in a volume, none near another.
    """
    plain, visible = mapped(source), _VISIBLE * _spread(prediction, inside)
    for contrast in CONTRASTS:
        places = _places(inside, rng, spheres)
        if not places:
            return
        changed = source.copy()
        regions = [_sphere(inside.shape, centre, radius) for centre, radius in places]
        for region in regions:
            changed[:, region] = np.clip(source[:, region] + contrast, 0, 1)
        answer = np.abs(translate(changed) - prediction).max(axis=0)
        given = np.abs(changed - source).max(axis=0)
        expected = np.abs(mapped(changed) - plain).max(axis=0)
        far = ndimage.distance_transform_edt(~np.logical_or.reduce(regions)) > _FAR
        for (_, radius), region in zip(places, regions, strict=True):
            amount, asked = float(given[region].mean()), float(expected[region].mean())
            if amount >= _ROOM and asked >= visible:
                strong = int(np.count_nonzero(answer[far] >= max(visible, min(amount, asked) / 2)))
                around = answer[_shell(region)]
                yield Insertion(
                    contrast,
                    radius,
                    amount,
                    asked,
                    float(answer[region].mean()),
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
    healed = translate(np.stack([_filled(channel, ndimage.binary_dilation(lesions)) for channel in source]))
    for number in chosen:
        region = numbered == number
        shell = _shell(region) & ~ndimage.binary_dilation(lesions)
        if not shell.any():
            continue
        before, after = (_contrast(volume, region, shell) for volume in (prediction, healed))
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
