"""The moves between voxel grids: which grid is wanted, and what a volume looks like on it.

Everything goes by world coordinates: a move is known by the two grids alone, so undoing one is the same move with the
grids exchanged. Where the voxels of both grids lie on one another, voxels are only reordered, cut off or padded, bit
by bit; only else are they interpolated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from medtrans.volume.affine import corners_mm, voxel_order
from medtrans.volume.volume import Grid

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_SAME_VOXELS = 1e-3  # grids whose voxels are nowhere further apart than this part of a voxel are one grid


def canonical(grid: Grid) -> Grid:
    """The same voxels counted in RAS+ order, as far as the axes' directions allow: none is moved."""
    return _reordered_grid(grid, *reordering(grid))


def reordering(grid: Grid) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
    """For each axis of a grid, which one of `canonical(grid)` it is, and whether it is counted the other way there."""
    return voxel_order(grid.affine)


def counted_like(grid: Grid, other: Grid) -> Grid:
    """The same voxels counted along the axes of another grid, as far as directions allow: none is moved."""
    return _reordered_grid(grid, *voxel_order(grid.affine, other.affine))


def _reordered_grid(grid: Grid, places: tuple[int, int, int], against: tuple[bool, bool, bool]) -> Grid:
    # Voxel axis a becomes axis places[a]; counted the other way, its last voxel becomes the first.
    shape, affine = [0, 0, 0], grid.affine.copy()
    for axis, (place, back) in enumerate(zip(places, against, strict=True)):
        step, side = grid.affine[:3, axis], grid.shape[axis]
        shape[place] = side
        affine[:3, place] = -step if back else step
        if back:
            affine[:3, 3] += step * (side - 1)
    return Grid(_triple(shape), affine)


def spaced(grid: Grid, spacing_mm: Sequence[float]) -> Grid:
    """A grid of the same axes and centre with other voxels, which covers all of `grid` and less than one voxel more."""
    ratio = np.asarray(spacing_mm, dtype=float) / grid.spacing_mm
    shape = np.maximum(1, np.ceil(np.asarray(grid.shape) / ratio - _SAME_VOXELS)).astype(int)
    affine = grid.affine @ np.diag((*ratio, 1.0))
    centre = grid.affine[:3, :3] @ (np.asarray(grid.shape) - 1) / 2 + grid.affine[:3, 3]
    affine[:3, 3] = centre - affine[:3, :3] @ (shape - 1) / 2
    return Grid(_triple(shape), affine)


def cropped(grid: Grid, box: tuple[slice, slice, slice]) -> Grid:
    """The grid of `volume[box]`; each slice has a start and a stop within the volume."""
    affine = grid.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ [side.start for side in box]
    return Grid(_triple([side.stop - side.start for side in box]), affine)


def regrid(data: np.ndarray, grid: Grid, onto: Grid, *, nearest: bool = False, fill: float = 0.0) -> np.ndarray:
    """The volume `data` `(i, j, k)`, which lies on `grid`, as it lies on `onto`.

    Voxels that lie on one another to 1e-3 of a voxel are copied as they are, in their own type; equal grids give
    `data` itself. Everything else is interpolated by world coordinates, trilinear in float32 or nearest in the type of
    `data`, with no smoothing before a reduction (as the paper resamples). A volume reaches half a voxel beyond its
    outermost voxel centres; further out is `fill`.
    """
    # Voxel v of `onto` lies at onto.affine @ v in the world, that is at inv(grid.affine) @ onto.affine @ v of `data`.
    move = np.linalg.solve(grid.affine, onto.affine)
    whole = np.rint(move)
    turn = np.abs(whole[:3, :3])
    reorders = (turn.sum(axis=0) == 1).all() and (turn.sum(axis=1) == 1).all()
    if reorders and np.abs(corners_mm(onto.shape, move - whole)).max() <= _SAME_VOXELS:  # here in voxels, not in mm
        return _reordered(data, whole.astype(int), onto.shape, fill)
    return _interpolated(data, move, onto.shape, nearest=nearest, fill=fill)


def _reordered(data: np.ndarray, move: np.ndarray, shape: tuple[int, int, int], fill: float) -> np.ndarray:
    """Exchange, turn round, cut and pad axes as the signed permutation `move` says."""
    # Column a of `move` has a single 1 or -1: in row axes[a], the axis of `data` that axis a of the result runs along.
    # Its last column is the voxel of `data` on which voxel (0, 0, 0) of the result lies.
    if data.shape == shape and (move == np.eye(4)).all():
        return data
    axes = np.abs(move[:3, :3]).argmax(axis=0)
    data = data.transpose(axes)
    inside, taken = [], []
    for axis, side in enumerate(shape):
        first = int(move[axes[axis], 3])
        if move[axes[axis], axis] < 0:
            data = np.flip(data, axis)
            first = data.shape[axis] - 1 - first  # the same voxel, counted from the other end
        start = min(max(0, -first), side)
        stop = max(start, min(side, data.shape[axis] - first))
        inside.append(slice(start, stop))
        taken.append(slice(start + first, stop + first))
    if all(part == slice(0, side) for part, side in zip(inside, shape, strict=True)):
        return np.ascontiguousarray(data[tuple(taken)])
    result = np.full(shape, fill, dtype=data.dtype)
    if all(part.stop > part.start for part in inside):
        result[tuple(inside)] = data[tuple(taken)]
    return result


def _interpolated(
    data: np.ndarray, move: np.ndarray, shape: tuple[int, int, int], *, nearest: bool, fill: float
) -> np.ndarray:
    kind = np.float64 if nearest else np.float32  # float64 holds labels of any type, which scipy does not take
    result: np.ndarray = ndimage.affine_transform(
        data.astype(kind, copy=False),
        move[:3, :3],
        move[:3, 3],
        output_shape=shape,
        output=kind,
        order=0 if nearest else 1,
        mode="nearest",  # so that the outer half of an edge voxel has its value; what lies further out is filled below
    )
    for beyond in _beyond(data.shape, move, shape):
        result[beyond] = fill
    return result.astype(data.dtype) if nearest else result


def _beyond(sides: Sequence[int], move: np.ndarray, shape: tuple[int, int, int]) -> Iterator[np.ndarray]:
    """Which voxels of `shape` lie beyond a volume of `sides`, one of its axes at a time.

    All three at once would take three times the memory of the volume.
    """
    steps = [np.arange(side, dtype=np.float32) for side in shape]
    for axis, side in enumerate(sides):
        i, j, k = (step * np.float32(factor) for step, factor in zip(steps, move[axis, :3], strict=True))
        at = i[:, None, None] + j[:, None] + (k + np.float32(move[axis, 3]))
        yield (at < -0.5 - _SAME_VOXELS) | (at > side - 0.5 + _SAME_VOXELS)


def covered(grids: Iterable[Grid], onto: Grid) -> np.ndarray | None:
    """Where images on all of `grids` have data for the voxels of `onto`, booleans; None where they have it everywhere.

    An image reaches as far as `regrid` says; there it takes `fill`.
    """
    reached: np.ndarray | None = None
    for grid in grids:
        move = np.linalg.solve(grid.affine, onto.affine)
        at = corners_mm(onto.shape, move)  # here in voxels, not in mm
        if ((at >= -0.5 - _SAME_VOXELS) & (at <= np.asarray(grid.shape) - 0.5 + _SAME_VOXELS)).all():
            continue  # what holds for the corners holds for all voxels between them
        reached = np.ones(onto.shape, dtype=bool) if reached is None else reached
        for beyond in _beyond(grid.shape, move, onto.shape):
            reached &= ~beyond
    return reached


def _triple(sides: Sequence[int] | np.ndarray) -> tuple[int, int, int]:
    i, j, k = (int(side) for side in sides)
    return i, j, k
