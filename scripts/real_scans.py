"""A small cohort of real anatomy to try `paired_folders` on: warped copies of the MNI152 average as NIfTI files.

    python scripts/real_scans.py real_scans
    medtrans run scripts/real_scans.yaml

The source is the T1-weighted MNI152 average that nilearn carries (nothing is downloaded); the target is a T2-like
contrast composed of its grey matter, white matter and brain maps, since no T2 average is there. Every subject has an
affine and an elastic deformation of its own, and every file an orientation, obliqueness, position and voxel size of
its own, as scans from several sites have. Written with plain nibabel, like data from anywhere.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
from nilearn import datasets
from scipy import ndimage
from scipy.spatial.transform import Rotation

ORIENTATIONS = ("RAS", "LAS", "PIR", "SPL", "LPI", "ASL")
STRETCH = ((1.0, 1.0, 1.0), (1.0, 1.0, 1.3), (0.9, 1.1, 1.0), (1.2, 1.0, 0.9))
"""Voxel sides relative to the asked spacing, in the file's own axis order."""
FIELD_OF_VIEW_MM = (184.0, 224.0, 188.0)
CENTRE_MM = (0.0, -18.0, 10.0)
"""Of the brain in MNI space."""
T2_OF_TISSUE = {"csf": 1000.0, "grey": 620.0, "white": 400.0}
"""Arbitrary units, in the order of brightness that T2-weighting gives."""


@dataclass(frozen=True)
class Maps:
    """Images on one grid: by name `(i, j, k)`, with the affine from voxels to MNI world in mm."""

    images: Mapping[str, np.ndarray]
    affine: np.ndarray


@dataclass(frozen=True)
class Grid:
    """Where a file's voxels lie in the scanner's world, in mm."""

    shape: tuple[int, int, int]
    affine: np.ndarray

    def points_mm(self) -> np.ndarray:
        """World coordinates of all voxels, `(3, i, j, k)`."""
        return _transformed(self.affine, np.indices(self.shape, dtype=np.float64))


def main() -> None:
    """Write the cohort that the command line asks for."""
    parser = argparse.ArgumentParser(description="Write paired volumes of real anatomy for medtrans run.")
    parser.add_argument("out", type=Path, help="folder to write to")
    parser.add_argument("--spacing-mm", type=float, default=2.5, help="about the size of a voxel")
    parser.add_argument("--subjects", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    write_cohort(given.out, spacing_mm=given.spacing_mm, subjects=given.subjects, seed=given.seed)


def write_cohort(out: Path, *, spacing_mm: float = 2.5, subjects: int = 6, seed: int = 0) -> None:
    """Write `sub-01/sub-01_T1w.nii.gz`, `sub-01_T2w.nii.gz`, `sub-01_mask.nii.gz` and so on under `out`."""
    maps = template(spacing_mm)
    for number in range(1, subjects + 1):
        rng = np.random.default_rng((seed, number))
        shift_mm = rng.uniform(-20, 20, 3)  # where this head lay in the scanner
        grid = drawn_grid(rng, number, spacing_mm, shift_mm)
        # Every third subject's T2w has a grid of its own in the same world, as separate acquisitions have.
        other = drawn_grid(rng, number + 1, spacing_mm, shift_mm) if number % 3 == 0 else grid
        warp = Warp(rng, shift_mm)
        write_subject(out / f"sub-{number:02d}", maps, warp, {"T1w": grid, "T2w": other, "mask": grid}, rng)


def template(spacing_mm: float) -> Maps:
    """The MNI152 average and its tissue maps, reduced to about `spacing_mm` once so that the rest is quick."""
    loaded = {
        "t1": datasets.load_mni152_template(resolution=1),
        "grey": datasets.load_mni152_gm_template(resolution=1),
        "white": datasets.load_mni152_wm_template(resolution=1),
        "brain": datasets.load_mni152_brain_mask(resolution=1),
    }
    step = max(1, round(spacing_mm / 2))  # finer than the result, which interpolates from it
    images = {
        name: ndimage.gaussian_filter(image.get_fdata(dtype=np.float32), 0.3 * spacing_mm)[::step, ::step, ::step]
        for name, image in loaded.items()
    }
    return Maps(images, loaded["t1"].affine @ np.diag((step, step, step, 1)))


class Warp:
    """From a subject's place in the scanner to MNI space: an affine map and a smooth elastic one."""

    _KNOTS_MM = 30.0

    def __init__(self, rng: np.random.Generator, shift_mm: np.ndarray) -> None:
        size = rng.uniform(0.92, 1.08, 3)
        turn = Rotation.from_euler("xyz", rng.uniform(-5, 5, 3), degrees=True).as_matrix()
        self._affine = np.eye(4)
        self._affine[:3, :3] = turn @ np.diag(size)
        self._affine[:3, 3] = np.asarray(CENTRE_MM) - self._affine[:3, :3] @ (np.asarray(CENTRE_MM) + shift_mm)
        knots = np.ceil(np.asarray(FIELD_OF_VIEW_MM) / self._KNOTS_MM).astype(int) + 4
        self._bumps_mm = rng.normal(0, 2.5, (3, *knots))
        self._to_knots = np.diag((*np.full(3, 1 / self._KNOTS_MM), 1.0))
        self._to_knots[:3, 3] = (knots - 1) / 2 - np.asarray(CENTRE_MM) / self._KNOTS_MM

    def __call__(self, points_mm: np.ndarray) -> np.ndarray:
        """MNI coordinates `(3, ...)` of scanner coordinates `(3, ...)`, in mm."""
        moved = _transformed(self._affine, points_mm)
        at = _transformed(self._to_knots, moved)
        bumps = [ndimage.map_coordinates(bump, at, order=3, mode="nearest") for bump in self._bumps_mm]
        return moved + np.stack(bumps)


def drawn_grid(rng: np.random.Generator, number: int, spacing_mm: float, shift_mm: np.ndarray) -> Grid:
    """An oblique grid around the head, in the orientation and voxel shape that the number stands for."""
    codes = ORIENTATIONS[(number - 1) % len(ORIENTATIONS)]
    sides_mm = spacing_mm * np.asarray(STRETCH[(number - 1) % len(STRETCH)])
    axes = np.stack([_direction(code) for code in codes], axis=1)
    tilt = Rotation.from_euler("xyz", rng.uniform(-8, 8, 3), degrees=True).as_matrix()
    shape = np.ceil(np.abs(axes.T) @ np.asarray(FIELD_OF_VIEW_MM) / sides_mm).astype(int)
    affine = np.eye(4)
    affine[:3, :3] = tilt @ axes @ np.diag(sides_mm)
    affine[:3, 3] = np.asarray(CENTRE_MM) + shift_mm - affine[:3, :3] @ (shape - 1) / 2
    return Grid((int(shape[0]), int(shape[1]), int(shape[2])), affine)


def write_subject(folder: Path, maps: Maps, warp: Warp, grids: Mapping[str, Grid], rng: np.random.Generator) -> None:
    """Write one subject's three files."""
    folder.mkdir(parents=True, exist_ok=True)
    gain = rng.uniform(700, 1300)  # MR has no unit: every scan has a scale of its own
    on_t1, on_t2 = (sampled(maps, warp, grids[name]) for name in ("T1w", "T2w"))
    images = {
        "T1w": np.rint(gain * on_t1["t1"]).astype(np.int16),
        "T2w": np.float32(rng.uniform(0.7, 1.3)) * pseudo_t2(on_t2),
        "mask": (on_t1["brain"] > 0.5).astype(np.uint8),
    }
    for name, image in images.items():
        written = nibabel.Nifti1Image(image, grids[name].affine)
        written.set_sform(grids[name].affine, code="scanner")
        written.set_qform(grids[name].affine, code="scanner")
        written.header.set_xyzt_units("mm")
        nibabel.save(written, folder / f"{folder.name}_{name}.nii.gz")


def sampled(maps: Maps, warp: Warp, grid: Grid) -> dict[str, np.ndarray]:
    """The maps as they lie on a subject's grid, trilinear, 0 outside."""
    at = _transformed(np.linalg.inv(maps.affine), warp(grid.points_mm()))
    return {name: ndimage.map_coordinates(image, at, order=1) for name, image in maps.images.items()}


def pseudo_t2(tissue: Mapping[str, np.ndarray]) -> np.ndarray:
    """A T2-like contrast: fluid bright, grey matter medium, white matter dark, all else 0; float32."""
    fluid = np.clip(tissue["brain"] - tissue["grey"] - tissue["white"], 0, 1)
    parts: Sequence[np.ndarray] = (
        T2_OF_TISSUE["csf"] * fluid,
        T2_OF_TISSUE["grey"] * tissue["grey"],
        T2_OF_TISSUE["white"] * tissue["white"],
    )
    return np.sum(parts, axis=0).astype(np.float32)


def _transformed(affine: np.ndarray, points: np.ndarray) -> np.ndarray:
    moved = np.tensordot(affine[:3, :3], points, axes=1)
    return moved + affine[:3, 3].reshape(3, *[1] * (points.ndim - 1))


def _direction(code: str) -> np.ndarray:
    axis = next(axis for axis, pair in enumerate(("LR", "PA", "IS")) if code in pair)
    unit = np.zeros(3)
    unit[axis] = 1.0 if code in "RAS" else -1.0
    return unit


if __name__ == "__main__":
    main()
