"""The check that a prediction lies where its source lay, read back by a library that is not medtrans."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, cast

import nibabel
import numpy as np
from nibabel import affines, orientations

from medtrans.testing.selftest.identity import identity_translator
from medtrans.volume import Volume, write

__all__ = ["check"]

TOLERANCE_MM = 1e-4
_MARKER = 1000
_SHAPE = (14, 17, 12)


def check(folder: Path) -> tuple[bool, str]:
    """Translate an asymmetric marker in all 48 voxel orders, aligned and oblique by turns, and look where it lies."""
    translator = identity_translator(folder, window=(0.0, 1024.0))
    worst, changed = 0.0, 0
    for number, (axes, signs) in enumerate(
        itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3))
    ):
        order = np.array(list(zip(axes, signs, strict=True)), dtype=float)
        volume = _marked(number, _ras(oblique=number % 2 == 1) @ cast("Any", orientations).inv_ornt_aff(order, _SHAPE))
        write(volume, folder / "source.nii.gz")
        translated = translator.translate(folder / "source.nii.gz")
        write(cast("Volume", translated), folder / "translated.nii.gz")
        image: Any = nibabel.load(folder / "translated.nii.gz")
        values = np.rint(np.asarray(image.dataobj))
        changed += int(values.shape != volume.shape or np.count_nonzero(values != volume.data))
        worst = max(worst, _apart(_places(volume.data, volume.affine), _places(values, image.affine)))
    figure = f"48 voxel orders, {worst:.1e} mm off at most, {changed} voxels changed"
    return worst <= TOLERANCE_MM and changed == 0, figure


def _ras(*, oblique: bool) -> np.ndarray:
    affine = np.diag((0.9, 1.3, 2.1, 1.0))
    if oblique:
        turn, tilt = np.deg2rad(14), np.deg2rad(-9)
        about_k = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
        about_i = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
        affine[:3, :3] = about_k @ about_i @ affine[:3, :3]
    affine[:3, 3] = (-31.2, 17.75, 52.125)
    return affine


def _marked(seed: int, affine: np.ndarray) -> Volume:
    """Speckle off centre with the letter L in it, which no flip and no exchange of axes leaves as it is."""
    data = np.zeros(_SHAPE, dtype=np.int16)
    tissue = tuple(slice(2, side - 1) for side in _SHAPE)
    data[tissue] = np.random.default_rng(seed).integers(200, 900, data[tissue].shape)
    data[3:9, 4, 5] = data[3, 4:8, 5] = data[3, 4, 5:7] = _MARKER
    return Volume(data, affine, 1)


def _places(values: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """World positions of the marker's voxels, in an order of the world's."""
    found = cast("Any", affines).apply_affine(affine, np.argwhere(np.rint(values) == _MARKER))
    return np.asarray(found[np.lexsort(np.rint(found * 100).T)])


def _apart(expected: np.ndarray, found: np.ndarray) -> float:
    return float(np.abs(expected - found).max()) if expected.shape == found.shape else float("inf")
