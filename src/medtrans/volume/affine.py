"""The geometry of affines: spacing, corners, directions, and what makes an affine place no volume.

A voxel `(i, j, k)` is counted along the array's axes; its world position, `affine @ (i, j, k, 1)`, is in mm to the
right, to the front and upwards (RAS+). So column 0 of the affine is the step from one i to the next: its length is the
spacing along i, its direction is where i grows to. Column 3 is the position of the centre of voxel (0, 0, 0).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any, cast

import numpy as np
from nibabel.quaternions import quat2mat

TOLERANCE_VOXELS = 0.1
"""How far, in voxels at the volume's corners, two statements of one position may lie apart."""

XFORM_CODES = range(1, 6)
"""The NIfTI codes that name a space; 0 means that the position is unknown."""

LARGEST_MM = 1e6
SMALLEST_MM = 1e-6


def spacing_mm(affine: np.ndarray) -> tuple[float, float, float]:
    """Distance between neighbouring voxels along i, j, k."""
    i, j, k = (float(length) for length in np.sqrt((affine[:3, :3] ** 2).sum(axis=0)))
    return i, j, k


def corners_mm(shape: tuple[int, int, int], affine: np.ndarray) -> np.ndarray:
    """World positions `(8, 3)` of the centres of the corner voxels."""
    corners = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)]) * (np.array(shape) - 1)
    return np.asarray(corners @ affine[:3, :3].T + affine[:3, 3])


def distance_mm(shape: tuple[int, int, int], affine: np.ndarray, other: np.ndarray) -> float:
    """The largest distance between the corners of one volume under two affines."""
    return float(np.linalg.norm(corners_mm(shape, affine) - corners_mm(shape, other), axis=1).max())


def orientation(affine: np.ndarray) -> str:
    """The direction in which i, j and k grow, such as "RAS"."""
    axes, reversed_ = voxel_order(affine)
    return "".join("RAS"[axis] if not back else "LPI"[axis] for axis, back in zip(axes, reversed_, strict=True))


def voxel_order(
    affine: np.ndarray, reference: np.ndarray | None = None
) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
    """For each voxel axis the axis of `reference` it follows, and whether it runs against it.

    Of the six ways to give each voxel axis an axis of its own, the one that follows them best in sum. Two ways that are
    equally good, as at 45 degrees, are told apart by where the axes lie in the world, so that a volume has one answer
    in whatever order it is stored.

    Args:
        affine: `(4, 4)`.
        reference: `(4, 4)`, whose axes are followed; right, front and up where there is none.
    """
    axes = (
        _nearest_rotation(affine) if reference is None else _nearest_rotation(reference).T @ _nearest_rotation(affine)
    )
    ways = [(_pointing(axes[:, list(way)]), way) for way in itertools.permutations(range(3))]
    # Step by step the ways that fall behind by more than rounding are left out: first by how well the axes follow in
    # sum, then by each direction cosine in turn. Nothing here depends on how the voxel axes were counted.
    criteria = [lambda turned: np.trace(turned), *(_cosine(row, column) for row in (2, 1, 0) for column in (2, 1, 0))]
    for criterion in criteria:
        best = max(criterion(turned) for turned, _ in ways)
        ways = [(turned, way) for turned, way in ways if criterion(turned) > best - _TIED]
    turned, way = ways[0]
    places = [way.index(axis) for axis in range(3)]
    against = [bool(turned[:, place] @ axes[:, axis] < 0) for axis, place in enumerate(places)]
    return (places[0], places[1], places[2]), (against[0], against[1], against[2])


def _nearest_rotation(affine: np.ndarray) -> np.ndarray:
    """The directions of the voxel axes `(3, 3)`, one a column, freed from shear: the polar factor."""
    left, _, right = np.linalg.svd(affine[:3, :3] / spacing_mm(affine))
    return np.asarray(left @ right)


def _pointing(axes: np.ndarray) -> np.ndarray:
    """The axes turned round so that each grows along its own world axis; across it, upwards, else to the front."""
    turned = axes.copy()
    for axis in range(3):
        along = next(turned[row, axis] for row in (axis, 2, 1, 0) if abs(turned[row, axis]) > _TIED)
        if along < 0:
            turned[:, axis] *= -1
    return turned


def _cosine(row: int, column: int) -> Callable[[np.ndarray], float]:
    return lambda turned: float(turned[row, column])


_TIED = 1e-4  # direction cosines that differ by less are equal: headers keep seven digits, quaternions fewer


def affine_fault(affine: np.ndarray) -> str | None:
    """Why a `(4, 4)` affine places no volume, or None where it does."""
    if not np.isfinite(affine).all():
        return "found NaN or infinity, expected finite numbers"
    if np.abs(affine).max() > LARGEST_MM:
        return f"found {np.abs(affine).max():.3g}, expected at most {LARGEST_MM:,.0f} mm"
    lengths = spacing_mm(affine)
    if min(lengths) < SMALLEST_MM or abs(np.linalg.det(affine[:3, :3])) <= 1e-6 * math.prod(lengths):
        return f"found a singular matrix {affine[:3, :3].tolist()}, expected three axes that span space"
    return None


def qform_affine(header: Any) -> np.ndarray:
    """The `(4, 4)` affine that pixdim, quaternion and qoffset of a NIfTI header stand for."""
    # The header stores b, c, d of a unit quaternion a + bi + cj + dk with a >= 0. Rounded to float32 their squares may
    # sum up to a little more than 1: a is then 0, and nibabel makes a unit quaternion of them.
    vector = np.array([header["quatern_b"], header["quatern_c"], header["quatern_d"]], np.float64)
    rest = math.sqrt(max(0.0, 1.0 - float(vector @ vector)))
    # A rotation keeps left and right apart, a mirrored image needs one axis more turned round: pixdim[0] ("qfac") of -1
    # reverses k. NIfTI has 0 count as 1.
    handed = -1 if float(header["pixdim"][0]) < 0 else 1
    affine = np.eye(4)
    spacing = np.array(header["pixdim"][1:4], np.float64)
    affine[:3, :3] = cast("Any", quat2mat)((rest, *vector)) * spacing * (1, 1, handed)
    affine[:3, 3] = header["qoffset_x"], header["qoffset_y"], header["qoffset_z"]
    return affine
