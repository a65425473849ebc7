"""The order that voxel axes are counted in depends on where they lie, not on how they are stored."""

from __future__ import annotations

import itertools

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from medtrans.volume import Grid, Volume, read, write
from medtrans.volume.affine import voxel_order
from medtrans.volume.resampling import canonical, counted_like

SHAPE = (7, 9, 11)
STORAGES = list(itertools.product(itertools.permutations(range(3)), itertools.product((False, True), repeat=3)))
turns = st.tuples(*[st.sampled_from([0, 30, 45, 60, 90, 135, 180, 225]) | st.floats(-180, 180)] * 3)


def stored(grid: Grid, axes: tuple[int, ...], back: tuple[bool, ...]) -> Grid:
    """The same voxels, axis a counted along axis `axes[a]`, from its end where `back` says so; float32 as in a file."""
    affine = grid.affine.copy()
    for axis, (old, reverse) in enumerate(zip(axes, back, strict=True)):
        step = grid.affine[:3, old]
        affine[:3, axis] = -step if reverse else step
        affine[:3, 3] += step * (grid.shape[old] - 1) * reverse
    shape = [grid.shape[old] for old in axes]
    return Grid((shape[0], shape[1], shape[2]), affine.astype(np.float32))


def posed(angles: tuple[float, float, float], spacing: tuple[float, float, float] = (0.8, 1.0, 2.5)) -> Grid:
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() * spacing
    affine[:3, 3] = (-12.5, 30.25, 7.75)
    return Grid(SHAPE, affine)


@given(turns)
@settings(max_examples=60, deadline=None)
def test_a_volume_has_one_canonical_grid_in_whatever_order_it_is_stored(angles: tuple[float, float, float]) -> None:
    """Poses that follow two world axes equally well are among the angles."""
    grid = posed(angles)
    first = canonical(grid)
    for axes, back in STORAGES:
        again = canonical(stored(grid, axes, back))
        assert again.shape == first.shape
        np.testing.assert_allclose(again.affine, first.affine, atol=1e-4)


@given(turns, turns)
@settings(max_examples=30, deadline=None)
def test_counting_like_another_grid_moves_no_voxel(
    angles: tuple[float, float, float], others: tuple[float, float, float]
) -> None:
    grid = posed(angles)
    counted = counted_like(grid, posed(others))
    assert sorted(counted.shape) == sorted(grid.shape)
    corners = {tuple(np.round(corner, 3) + 0.0) for corner in counted.corners_mm()}
    assert corners == {tuple(np.round(corner, 3) + 0.0) for corner in grid.corners_mm()}


@pytest.mark.parametrize(("angles", "named"), [((0, 0, 0), "RAS"), ((0, 0, 180), "LPS"), ((90, 0, 0), "RSP")])
def test_axes_are_named_by_the_direction_they_grow_in(angles: tuple[float, float, float], named: str) -> None:
    assert Volume(np.zeros(SHAPE), posed(angles).affine).orientation == named
    assert voxel_order(posed(angles).affine) == (
        tuple("LRPAIS".index(letter) // 2 for letter in named),
        tuple(letter in "LPI" for letter in named),
    )


@pytest.mark.parametrize("apart_voxels", [0.005, 0.05, 0.5])
def test_a_slightly_sheared_position_is_written_twice_where_it_can_be_read_again(apart_voxels: float, tmp_path) -> None:
    """As scans come whose sform was fitted: the nearest rotation is their qform, so that every program opens them."""
    grid = posed((11, -17, 8), (1.0, 1.0, 1.0))
    affine = grid.affine.copy()
    affine[:3, 1] += affine[:3, 0] * 2 * apart_voxels / (SHAPE[1] - 1)  # a shear that moves the far corner so far
    write(Volume(np.ones(SHAPE, np.uint8), affine), tmp_path / "scan.nii")
    header = nibabel.load(tmp_path / "scan.nii").header
    written_twice = apart_voxels < 0.1
    assert (int(header["sform_code"]), int(header["qform_code"])) == (1, int(written_twice))
    assert read(tmp_path / "scan.nii").grid.distance_mm(Grid(SHAPE, affine)) < 1e-4
