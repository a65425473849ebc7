"""How well two images of a case are registered: how far one seems shifted, and which cases stand out.

The two images may be of different modalities, so that neither their difference nor their correlation says anything:
bone is bright in CT and dark in MR. Mutual information only asks how well one image's intensity foretells the other's,

    I(A; B) = sum over a, b of p(a, b) log( p(a, b) / (p(a) p(b)) ),

with p the joint histogram of both at the same points, and is largest where they lie on one another.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from scipy import ndimage

from medtrans.data.sampling import foreground
from medtrans.volume import Grid
from medtrans.volume.resampling import canonical, regrid, spaced

if TYPE_CHECKING:
    from collections.abc import Mapping

    from medtrans.volume import Volume

__all__ = ["Registration", "median_shift_mm", "outliers", "registration"]


Shift: TypeAlias = tuple[int, int, int]

_STEP_MM = 2.0  # voxels of the grid both images are compared on
_REACH = 6  # voxels a shift is looked for in each direction
_BINS = 32
_POINTS = 60_000  # voxels looked at for each shift
_LATTICE = 150_000  # about as many voxels may be looked at
_FEWEST_ML = 8.0  # a cube of 20 mm: without it nothing can be said
_ROUNDS = 4
_GAIN = 0.02  # nats between the best shift and the typical one; less is chance
_APART_MM = 1.5
_ROBUST_SD = 3.0
_COHORT = 5  # measured cases from which a cohort has a spread


@dataclass(frozen=True)
class Registration:
    """How one image of a case lies against another.

    Args:
        corners_mm: the largest distance between corners of the two grids, in any order of storage.
        overlap: Dice coefficient of the two foregrounds.
        shift_mm: how far the second image seems to lie off, towards right, front and up as far as the first image's
            axes point there; None where that cannot be measured.
        voxel_mm: the longest side of a voxel of either image: what bounds any such measurement.
        note: why there is no shift; empty where there is one.
    """

    corners_mm: float
    overlap: float
    shift_mm: tuple[float, float, float] | None
    voxel_mm: float
    note: str = ""


def registration(first: Volume, second: Volume, mask: Volume | None = None) -> Registration:
    """Measure how the second image lies against the first.

    Both are resampled to 2 mm on the first one's axes. The shift is where their mutual information (32 x 32 bins, at
    most 60,000 voxels of the mask or of both foregrounds) is largest within 12 mm in each direction, looked for along
    one axis after the other, and between voxels by the parabola through its neighbours. It sees shifts, and other
    movements as far as they have one; where the images have little in common it says nothing.

    Args:
        first: such as the source.
        second: such as the target, in the same world space.
        mask: where to look; the foregrounds where it is None.
    """
    reference = canonical(first.grid)
    corners_mm = float(np.linalg.norm(reference.corners_mm() - canonical(second.grid).corners_mm(), axis=1).max())
    voxel_mm = max(*first.spacing_mm, *second.spacing_mm)
    fine = spaced(reference, (_STEP_MM,) * 3)
    every = max(1, int((math.prod(fine.shape) / _LATTICE) ** (1 / 3)))
    coarse = _every(fine, every)
    moving = _on(second, fine)  # in full, since it is looked at in all places around
    one, other = _on(first, coarse), moving[::every, ::every, ::every]
    inner, outer = (foreground(image, _range(image[np.isfinite(image)])) for image in (one, other))
    size = int(inner.sum()) + int(outer.sum())
    overlap = 2 * int((inner & outer).sum()) / size if size else 0.0
    if mask is None:  # with a voxel of background around it: an outline moves too
        points = np.asarray(ndimage.binary_dilation(inner | outer, ndimage.generate_binary_structure(3, 1)))
    else:
        points = regrid((mask.data > 0).astype(np.uint8), mask.grid, coarse, nearest=True) > 0
    shift, note = _shift_mm(one, moving, points & np.isfinite(one) & np.isfinite(other), every)
    return Registration(corners_mm, overlap, shift, voxel_mm, note)


def outliers(registrations: Mapping[int, Registration]) -> dict[int, float]:
    """The cases whose shift stands out, with its distance from the cohort's median shift in mm.

    Standing out is more than 1.5 mm, and more than three robust standard deviations (1.4826 times the median absolute
    deviation) beyond the cohort's median distance. Fewer than five measured cases have no spread: there the distance is
    from no shift at all, and half a voxel is allowed.
    """
    shifts = {number: np.array(one.shift_mm) for number, one in registrations.items() if one.shift_mm is not None}
    if not shifts:
        return {}
    middle = median_shift_mm(registrations)
    apart = {number: float(np.linalg.norm(shift - (middle or 0.0))) for number, shift in shifts.items()}
    if middle is None:
        return {
            number: distance
            for number, distance in apart.items()
            if distance > max(_APART_MM, registrations[number].voxel_mm / 2)
        }
    distances = np.array(list(apart.values()))
    centre = float(np.median(distances))
    limit = centre + _ROBUST_SD * 1.4826 * float(np.median(np.abs(distances - centre)))
    return {number: distance for number, distance in apart.items() if distance > max(_APART_MM, limit)}


def median_shift_mm(registrations: Mapping[int, Registration]) -> tuple[float, float, float] | None:
    """The cohort's median shift along each axis; None for fewer than five measured cases."""
    shifts = [one.shift_mm for one in registrations.values() if one.shift_mm is not None]
    if len(shifts) < _COHORT:
        return None
    i, j, k = (float(mm) for mm in np.median(shifts, axis=0))
    return i, j, k


def _on(volume: Volume, grid: Grid) -> np.ndarray:
    """The volume on the grid, NaN where it does not reach."""
    return regrid(volume.data.astype(np.float32, copy=False), volume.grid, grid, fill=np.nan)


def _every(grid: Grid, step: int) -> Grid:
    """The grid of `volume[::step, ::step, ::step]`."""
    i, j, k = (-(-side // step) for side in grid.shape)
    return Grid((i, j, k), grid.affine @ np.diag((step, step, step, 1)))


def _range(values: np.ndarray) -> tuple[float, float]:
    if not values.size:
        return 0.0, 0.0
    low, high = np.percentile(values[:: max(1, values.size // _POINTS)], (0.5, 99.5))
    return float(low), float(high)


def _shift_mm(
    one: np.ndarray, moving: np.ndarray, points: np.ndarray, every: int
) -> tuple[tuple[float, float, float] | None, str]:
    volume_ml = int(points.sum()) * (every * _STEP_MM) ** 3 / 1000
    if volume_ml < _FEWEST_ML:
        return None, f"too little in common: {volume_ml:.3g} ml"
    curve = _Curve(one, moving, points, every)
    best = curve.peak()
    along = [curve.along(best, axis) for axis in range(3)]
    # The value itself says little, since it grows with both images' own entropy; what counts is by how much the best
    # place is better than the others.
    gain = max(along[0]) - float(np.median(along))
    if gain < _GAIN:
        return None, f"too little in common: one image tells {gain:.3f} nats of the other"
    if max(map(abs, best)) == _REACH:
        return None, f"no best fit within {_REACH * _STEP_MM:g} mm"
    i, j, k = (
        _STEP_MM * (at + _vertex(*values[at + _REACH - 1 : at + _REACH + 2]))
        for at, values in zip(best, along, strict=True)
    )
    return (i, j, k), ""


def _vertex(before: float, here: float, after: float) -> float:
    """Where the parabola through three neighbours is largest, from the middle one; at most half a voxel away."""
    bend = before - 2 * here + after
    return float(np.clip((before - after) / (2 * bend), -0.5, 0.5)) if bend < 0 else 0.0


class _Curve:
    """Mutual information of two images on one grid, over whole shifts of the second; each is computed once."""

    def __init__(self, one: np.ndarray, moving: np.ndarray, points: np.ndarray, every: int) -> None:
        # A shift moves no image: with the second one padded by the reach, in a flat array, it is one number that is
        # added to the index of every point. Bin 32 stands for what is not known, and its column is left out.
        places = np.stack(np.nonzero(points))
        places = places[:, :: -(-places.shape[1] // _POINTS)]
        self._one = _codes(one[tuple(places)]).astype(np.intp) * (_BINS + 1)
        outside = np.full([side + 2 * _REACH for side in moving.shape], _BINS, np.uint8)
        outside[(slice(_REACH, -_REACH),) * 3] = _codes(moving)
        self._other = outside.ravel()
        self._strides = outside.strides  # in bytes, and a code is one
        self._places = np.ravel_multi_index(tuple(places * every + _REACH), outside.shape)
        self._known: dict[Shift, float] = {}

    def at(self, shift: Shift) -> float:
        """In nats."""
        if shift not in self._known:
            move = sum(side * step for side, step in zip(shift, self._strides, strict=True))
            pairs = self._one + self._other[self._places + move]
            table = np.bincount(pairs, minlength=_BINS * (_BINS + 1)).reshape(_BINS, _BINS + 1)[:, :_BINS]
            self._known[shift] = _information(table)
        return self._known[shift]

    def along(self, shift: Shift, axis: int) -> list[float]:
        """The values on the line through `shift` along an axis, from one end to the other."""
        return [self.at(_placed(shift, axis, side)) for side in range(-_REACH, _REACH + 1)]

    def peak(self) -> Shift:
        """The best shift of all on the three lines through it.

        One axis after the other: 13 values a line instead of 13³ in all, and the peak is broad enough for it.
        """
        best: Shift = (0, 0, 0)
        for _ in range(_ROUNDS):
            before = best
            for axis in range(3):
                best = _placed(best, axis, int(np.argmax(self.along(best, axis))) - _REACH)
            if best == before:
                break
        return best


def _placed(shift: Shift, axis: int, side: int) -> Shift:
    i, j, k = (side if own == axis else there for own, there in enumerate(shift))
    return i, j, k


def _codes(values: np.ndarray) -> np.ndarray:
    """The bin of each value, 32 where it is NaN; a constant image has one bin."""
    known = np.isfinite(values)
    low, high = _range(values[known])
    codes = np.full(values.shape, _BINS, np.uint8)
    step = (high - low) / _BINS or 1.0
    codes[known] = np.clip((values[known] - low) / step, 0, _BINS - 1)
    return codes


def _information(table: np.ndarray) -> float:
    """Mutual information of a table of counts, in nats."""
    shares = table / max(1, table.sum())
    alone = shares.sum(axis=1, keepdims=True) * shares.sum(axis=0, keepdims=True)
    there = shares > 0
    return float((shares[there] * np.log(shares[there] / alone[there])).sum())
