"""Owns volumes in world space, and the only way from and to image files: a guarded reader and a verified writer."""

from __future__ import annotations

import gzip
import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from nibabel.nifti1 import Nifti1Header

from medtrans import nifti_guard
from medtrans._version import __version__
from medtrans.atomic import complete_file
from medtrans.errors import DataError, SetupError

__all__ = ["Grid", "Header", "Volume", "read", "read_header", "write"]


@dataclass(frozen=True, eq=False)
class Grid:
    """Where the voxels of a volume lie.

    Args:
        shape: voxels along i, j, k.
        affine: `(4, 4)`, voxel indices to world coordinates in mm; kept as float64.

    Raises:
        DataError: the affine is not finite or singular.
    """

    shape: tuple[int, int, int]
    affine: np.ndarray

    def __post_init__(self) -> None:
        i, j, k = (int(side) for side in self.shape)
        object.__setattr__(self, "shape", (i, j, k))
        object.__setattr__(self, "affine", _sound_affine(self.affine))

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between neighbouring voxels along i, j, k."""
        return nifti_guard.spacing_mm(self.affine)

    def corners_mm(self) -> np.ndarray:
        """World positions `(8, 3)` of the centres of the corner voxels."""
        return nifti_guard.corners_mm(self.shape, self.affine)

    def distance_mm(self, other: Grid) -> float:
        """The largest distance between corners of the same index; infinite where the shapes differ."""
        if self.shape != other.shape:
            return math.inf
        return nifti_guard.distance_mm(self.shape, self.affine, other.affine)


@dataclass(frozen=True, eq=False)
class Volume:
    """A 3-D image in world space.

    Args:
        data: `(i, j, k)`, booleans, integers or floats.
        affine: `(4, 4)`, voxel indices to world coordinates in mm; kept as float64.
        space_code: NIfTI code of the world space: 1 scanner, 2 aligned, 3 Talairach, 4 MNI, 5 other template.

    Raises:
        DataError: the data are not 3-D or not real numbers, the affine is not finite or singular, or the code is none
            of 1 to 5.
    """

    data: np.ndarray
    affine: np.ndarray
    space_code: int = 1

    def __post_init__(self) -> None:
        if self.data.ndim != 3 or self.data.dtype.kind not in "biuf":
            raise DataError(
                f"volume: found an array of shape {self.data.shape} and type {self.data.dtype}, "
                "expected three axes of booleans, integers or floats."
            )
        if self.space_code not in nifti_guard.XFORM_CODES:
            raise DataError(f"volume: space_code: found {self.space_code}, expected 1 to 5.")
        object.__setattr__(self, "affine", _sound_affine(self.affine))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along i, j, k."""
        i, j, k = self.data.shape
        return i, j, k

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between neighbouring voxels along i, j, k."""
        return nifti_guard.spacing_mm(self.affine)

    @property
    def orientation(self) -> str:
        """The anatomical direction nearest to that in which i, j and k grow, such as "RAS"."""
        return nifti_guard.orientation(self.affine)

    @property
    def grid(self) -> Grid:
        """Where the voxels lie."""
        return Grid(self.shape, self.affine)


@dataclass(frozen=True, eq=False)
class Header:
    """What is known of an image file before its voxels are read.

    Args:
        path: the file.
        grid: where its voxels lie.
        space_code: NIfTI code of the world space.
        dtype: the type `read` gives the voxels.
    """

    path: Path
    grid: Grid
    space_code: int
    dtype: np.dtype[Any]


def read(path: Path | str) -> Volume:
    """Read a `.nii` or `.nii.gz` file whose position, size and values are beyond doubt.

    Floating and scaled voxels come as float32 in physical values, others in their own integer type. The sform places
    the volume where its code is set, else the qform. A fourth axis of length 1 is dropped.

    Raises:
        DataError: the file is missing, ambiguous, damaged, not placed in space or holds NaN; all faults of a header
            are reported at once.
        SetupError: the voxels do not fit into memory.
    """
    path = Path(path)
    with nifti_guard.opened(path) as stream:
        layout = nifti_guard.layout_of(path, stream)
        values = _physical(path, nifti_guard.stored_voxels(path, stream, layout), layout)
    return Volume(values, layout.affine, layout.space_code)


def read_header(path: Path | str) -> Header:
    """Check a file as `read` does, as far as that goes without reading voxels.

    Raises:
        DataError: all faults found.
    """
    path = Path(path)
    with nifti_guard.opened(path) as stream:
        layout = nifti_guard.layout_of(path, stream)
    return Header(path, Grid(layout.shape, layout.affine), layout.space_code, layout.dtype)


def write(volume: Volume, path: Path | str, *, description: str = "") -> None:
    """Write a volume as `.nii` or `.nii.gz`; the name appears only once the file has been read back and compared.

    The header is built from nothing, so that no name or date travels from a source: sform and qform with the volume's
    code (a sheared affine has no qform), mm, no scaling, the description. Floats are stored as float32, booleans as
    uint8, 64-bit integers as int32, others in their own type. The same volume gives the same bytes.

    Args:
        volume: what to write.
        path: a file in a folder that exists; one that is there is replaced.
        description: up to 79 ASCII characters for the header; "medtrans <version>" where empty.

    Raises:
        DataError: the volume or the name is none that can be stored and read again.
        SetupError: the disk is full, the folder is missing or not writable, or what was written differs.
    """
    path = Path(path)
    nifti_guard.check_name(path)
    values = _storable(path, volume.data)
    header = _header(path, volume, values.dtype, description or f"medtrans {__version__}")
    try:
        nifti_guard.check_alone(path)
        with complete_file(path) as temporary:
            with _sink(temporary) as stream:
                stream.write(header.binaryblock + bytes(4))  # four zeros: no extension follows
                for k in range(values.shape[2]):
                    stream.write(values[:, :, k].tobytes(order="F"))
            _compare(path, temporary, values, volume)
    except OSError as error:
        raise SetupError(_unwritable(path, error, values.nbytes + 352)) from error


def _sound_affine(affine: np.ndarray) -> np.ndarray:
    affine = np.array(affine, np.float64)
    if affine.shape != (4, 4) or affine[3].tolist() != [0, 0, 0, 1]:
        raise DataError(f"affine: found {affine.tolist()}, expected 4 × 4 numbers with 0, 0, 0, 1 in the last row.")
    if fault := nifti_guard.affine_fault(affine):
        raise DataError(f"affine: {fault}.")
    return affine


def _physical(path: Path, stored: np.ndarray, layout: nifti_guard.Layout) -> np.ndarray:
    if layout.dtype.kind != "f":
        return np.ascontiguousarray(stored, layout.dtype)
    values = np.empty(layout.shape, np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is counted below
        for i in range(layout.shape[0]):  # slice by slice: float64 of the whole volume would double the memory
            values[i] = stored[i].astype(np.float64) * layout.slope + layout.inter if layout.scaled else stored[i]
    _check_finite(path, values, stored)
    return values


def _check_finite(path: Path, values: np.ndarray, origin: np.ndarray) -> None:
    finite = np.isfinite(values)
    if finite.all():
        return
    counts = {
        "are NaN": np.isnan(origin).sum(),
        "are infinite": np.isinf(origin).sum(),
        "lie beyond float32": (~finite & np.isfinite(origin)).sum(),
    }
    found = " and ".join(f"{count:,} of {values.size:,} voxels {what}" for what, count in counts.items() if count)
    raise DataError(f"{path}: {found}, expected finite numbers. Fix or exclude the image.")


def _storable(path: Path, data: np.ndarray) -> np.ndarray:
    """The array little-endian, in the type it is stored in."""
    if min(data.shape) < 2 or max(data.shape) > 32767:
        raise DataError(f"{path}: found a volume of {data.shape} voxels, expected 2 to 32,767 a side.")
    kind, size = data.dtype.kind, data.dtype.itemsize
    if kind == "f":
        with np.errstate(over="ignore", invalid="ignore"):
            values = data.astype("<f4", copy=False)
        _check_finite(path, values, data)
        return values
    if kind == "b":
        return data.astype("u1")
    if size < 8:
        return data.astype(data.dtype.newbyteorder("<"), copy=False)
    limits = np.iinfo(np.int32)
    if data.min() < limits.min or data.max() > limits.max:
        raise DataError(
            f"{path}: found {data.dtype} from {data.min():,} to {data.max():,}, expected what fits int32, since few "
            "programs read wider integers. Convert it to float32 or rescale it."
        )
    return data.astype("<i4")


def _header(path: Path, volume: Volume, dtype: np.dtype[Any], description: str) -> Any:
    if len(description) > 79 or not description.isascii():
        raise DataError(f"{path}: description: found {description!r}, expected at most 79 ASCII characters.")
    header = cast("Any", Nifti1Header)(endianness="<")
    header.set_data_dtype(dtype)
    header.set_data_shape(volume.shape)
    header.set_zooms(volume.spacing_mm)
    header.set_xyzt_units("mm")
    header.set_slope_inter(1, 0)
    header["vox_offset"] = 352
    header["descrip"] = description.encode("ascii")
    header.set_sform(volume.affine, volume.space_code)
    if _moved(volume, header.get_sform()):
        raise DataError(
            f"{path}: affine: a NIfTI header (float32) moves it by more than 0.01 voxel. Move the origin nearer."
        )
    posed = header.copy()
    posed.set_qform(volume.affine, volume.space_code)
    return header if _moved(volume, nifti_guard.qform_affine(posed)) else posed


def _moved(volume: Volume, affine: np.ndarray) -> bool:
    apart = nifti_guard.distance_mm(volume.shape, volume.affine, affine)
    return apart > nifti_guard.TOLERANCE_VOXELS / 10 * min(volume.spacing_mm)


@contextmanager
def _sink(path: Path) -> Iterator[BinaryIO]:
    with path.open("wb") as file:
        if nifti_guard.is_compressed(path):
            # neither name nor time, so that the same volume gives the same bytes
            with gzip.GzipFile(filename="", fileobj=file, mode="wb", compresslevel=1, mtime=0) as stream:
                yield cast("BinaryIO", stream)
        else:
            yield file


def _compare(path: Path, written: Path, values: np.ndarray, volume: Volume) -> None:
    try:
        back = read(written)
    except DataError as error:
        raise SetupError(f"{path}: what was written cannot be read back: {error} Check the disk.") from error
    same = back.data.dtype == values.dtype.newbyteorder("=") and np.array_equal(back.data, values)
    placed = np.array_equal(back.affine, volume.affine.astype(np.float32)) and back.space_code == volume.space_code
    if not (same and placed):
        raise SetupError(f"{path}: what was written reads back differently; the file was not kept. Check the disk.")


def _unwritable(path: Path, error: OSError, size: int) -> str:
    if not path.parent.is_dir():
        return f"{path}: cannot be written, since there is no folder {path.parent}. Make it, or correct the path."
    free = shutil.disk_usage(path.parent).free
    return (
        f"{path}: cannot be written ({error.strerror or error}): up to {size:,} bytes are needed, {free:,} are free in "
        f"{path.parent}. Free space, or choose a folder you may write to."
    )
