"""The volumes that a run keeps of its shown cases, so that a report can carry a viewer without the data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from medtrans.data.cohort import Member, load_image
from medtrans.volume import Grid, ReadingRules, Volume, read, write
from medtrans.volume.resampling import canonical, cropped, regrid

__all__ = ["LEVELS", "ROLES", "for_viewing", "keep_volumes", "kept_volumes", "quantised"]


ROLES = ("source", "prediction", "target")

LEVELS = 1023
"""Steps between a volume's least and greatest value: finer than a screen shows, and noise still compresses."""

_MOST_VOXELS = 2**21
_DIM = 0.02  # of the range of intensities, above which a voxel is no empty border


def keep_volumes(
    folder: Path, stem: str, member: Member, predicted: Volume, *, source: str, target: str, rules: ReadingRules
) -> None:
    """Keep small copies of a case's source, prediction and target, as `<stem>_<role>.nii.gz`.

    Args:
        folder: of the run's pictures.
        stem: such as "worst_case_0007".
        member: the case.
        predicted: its prediction.
        source: the modality that is shown as source.
        target: the modality that was predicted.
        rules: how images are read that would otherwise be refused.
    """
    volumes = {
        "source": load_image(member.case, source, rules),
        "prediction": predicted,
        "target": load_image(member.case, target, rules),
    }
    for role, volume in for_viewing(volumes).items():
        levels, low, step = quantised(volume.data)
        rounded = Volume((low + step * levels).astype(np.float32), volume.affine)  # a third of the bytes once packed
        write(rounded, folder / f"{stem}_{role}.nii.gz", description="medtrans: for viewing only")


def kept_volumes(folder: Path, stem: str) -> dict[str, Volume]:
    """What `keep_volumes` kept, by role, on one grid; empty where it did not keep all."""
    paths = {role: folder / f"{stem}_{role}.nii.gz" for role in ROLES}
    if not all(path.is_file() for path in paths.values()):
        return {}
    volumes = {role: read(path) for role, path in paths.items()}
    return _on(volumes["prediction"].grid, volumes)  # earlier versions cropped each by itself


def for_viewing(volumes: Mapping[str, Volume]) -> dict[str, Volume]:
    """The volumes on the prediction's grid in RAS+ order, without the border that is empty in all of them.

    While there are more than two million voxels, every second one is taken along the axes with the finest spacing, so
    that what is shown are values of the image and no means.
    """
    grid = canonical(volumes["prediction"].grid)
    placed = {role: volume.data for role, volume in _on(grid, volumes).items()}
    box = _box(placed.values())
    grid = cropped(grid, box)
    strides = np.ones(3, dtype=int)
    while (sides := -(-np.asarray(grid.shape) // strides)).prod() > _MOST_VOXELS:
        spacing = np.where(sides < 4, np.inf, grid.spacing_mm * strides)
        strides = np.where(spacing < 1.5 * spacing.min(), 2 * strides, strides)
    i, j, k = strides
    affine = grid.affine @ np.diag([i, j, k, 1.0])
    return {role: Volume(np.ascontiguousarray(data[box][::i, ::j, ::k]), affine) for role, data in placed.items()}


def quantised(data: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Values as whole levels from 0 to `LEVELS`, the value of level 0, and the step from one level to the next."""
    low, high = float(data.min()), float(data.max())
    step = (high - low) / LEVELS or 1.0
    return np.rint((data - low) / step).astype(np.uint16), low, step


def _on(grid: Grid, volumes: Mapping[str, Volume]) -> dict[str, Volume]:
    return {
        role: Volume(
            regrid(volume.data, volume.grid, grid, fill=float(volume.data.min())).astype(np.float32), grid.affine
        )
        for role, volume in volumes.items()
    }


def _box(volumes: Iterable[np.ndarray]) -> tuple[slice, slice, slice]:
    """Where at least one of the volumes is brighter than its background, and two voxels around."""
    inside = np.logical_or.reduce([data > _dark(data) for data in volumes])
    if not inside.any():
        inside[:] = True
    sides = []
    for axis in range(3):
        planes = np.flatnonzero(inside.any(axis=tuple({0, 1, 2} - {axis})))
        sides.append(slice(max(0, int(planes[0]) - 2), min(inside.shape[axis], int(planes[-1]) + 3)))
    i, j, k = sides
    return i, j, k


def _dark(data: np.ndarray) -> float:
    low, high = np.percentile(data, (0.5, 99.5))
    return float(low + _DIM * (high - low))
