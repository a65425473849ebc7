"""Owns the interactive viewer of a report: the NiiVue that comes with medtrans, and volumes that a page can carry."""

from __future__ import annotations

import gzip
import hashlib
import struct
import tempfile
from importlib.resources import files
from pathlib import Path

import numpy as np

from medtrans.errors import SetupError
from medtrans.regrid import canonical, cropped, regrid
from medtrans.volume import Grid, Volume, write

__all__ = ["NIIVUE", "carried", "viewer_script"]

NIIVUE = "0.69.0"
"""The version of NiiVue that is carried (BSD-2-Clause; its licence and notices lie beside it)."""

_MOST_VOXELS = 2**21
_LEVELS = 255
_SLOPE = 112  # where a NIfTI-1 header holds scl_slope and scl_inter
_SHOWN = 124  # where it holds the intensities of white and black
_DIM = 0.02  # of the range of intensities, above which a voxel is no empty border


def viewer_script() -> str:
    """NiiVue as JavaScript that a page can hold.

    Raises:
        SetupError: the file is missing or is not the one that was published.
    """
    folder = files("medtrans") / "templates" / "niivue"
    try:
        content = (folder / "niivue.umd.js").read_bytes()
        published = (folder / "SHA256SUMS").read_text(encoding="utf-8").split()[0]
    except OSError as error:
        raise SetupError(f"the viewer that comes with medtrans is missing ({error}); install medtrans again") from error
    if hashlib.sha256(content).hexdigest() != published:
        raise SetupError("the viewer that comes with medtrans has been changed; install medtrans again")
    return content.decode("utf-8")


def carried(volume: Volume, limits: tuple[float, float]) -> bytes:
    """A volume as a small NIfTI file: no empty border, 256 grey levels, every second voxel where there are millions.

    Args:
        volume: any.
        limits: the intensities of the darkest and the brightest level; the header's slope leads back to them.
    """
    grid = canonical(volume.grid)
    data = regrid(volume.data, volume.grid, grid)
    low, high = limits
    grid, data = _without_border(grid, data, low + _DIM * (high - low))
    while data.size > _MOST_VOXELS:
        data = data[::2, ::2, ::2]
        grid = Grid((data.shape[0], data.shape[1], data.shape[2]), grid.affine @ np.diag([2.0, 2.0, 2.0, 1.0]))
    step = (high - low) / _LEVELS or 1.0
    levels = np.clip(np.rint((data - low) / step), 0, _LEVELS).astype(np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "volume.nii.gz"
        write(Volume(np.ascontiguousarray(levels), grid.affine), path, description="medtrans: for viewing only")
        stored = bytearray(gzip.decompress(path.read_bytes()))
    struct.pack_into("<2f", stored, _SLOPE, step, low)
    struct.pack_into("<2f", stored, _SHOWN, high, low)
    return gzip.compress(bytes(stored), compresslevel=9, mtime=0)


def _without_border(grid: Grid, data: np.ndarray, dark: float) -> tuple[Grid, np.ndarray]:
    inside = data > dark
    if not inside.any():
        return grid, data
    sides = []
    for axis in range(3):
        planes = np.flatnonzero(inside.any(axis=tuple({0, 1, 2} - {axis})))
        sides.append(slice(max(0, int(planes[0]) - 2), min(data.shape[axis], int(planes[-1]) + 3)))
    i, j, k = sides
    return cropped(grid, (i, j, k)), data[i, j, k]
