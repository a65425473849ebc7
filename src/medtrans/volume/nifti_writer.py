"""NIfTI files as they are written: a header built from nothing, the voxels, and no name before all is on disk."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from nibabel.nifti1 import Nifti1Header

from medtrans._version import __version__
from medtrans.errors import DataError, SetupError
from medtrans.utils.files import complete_file
from medtrans.volume.affine import TOLERANCE_VOXELS, distance_mm, qform_affine, spacing_mm
from medtrans.volume.stream import NIFTI_ENDINGS, check_ending, check_unambiguous, finite_fault, is_compressed

try:
    from isal import igzip  # the same streams in a tenth of the time; an extra of medtrans

    _GzipFile: type[gzip.GzipFile] = igzip.IGzipFile
except ImportError:
    _GzipFile = gzip.GzipFile

HEADER_BYTES = 352
"""Header and the four zeros after it, which say that no extension follows."""


def storage_array(path: Path, data: np.ndarray) -> np.ndarray:
    """The array little-endian, in the type it is stored in, or a DataError where it could not be read again."""
    if min(data.shape) < 2 or max(data.shape) > 32767:
        raise DataError(f"{path}: found a volume of {data.shape} voxels, expected 2 to 32,767 a side.")
    kind, size = data.dtype.kind, data.dtype.itemsize
    if kind == "f":
        with np.errstate(over="ignore", invalid="ignore"):
            values = data.astype("<f4", copy=False)
        if fault := finite_fault(values, data):
            raise DataError(f"{path}: {fault}. Mend the volume before it is written.")
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


def header_bytes(path: Path, values: np.ndarray, affine: np.ndarray, space_code: int, description: str) -> bytes:
    """The header of a file with these values, or a DataError where it cannot hold the description or the position."""
    if len(description) > 79 or not description.isascii():
        raise DataError(f"{path}: description: found {description!r}, expected at most 79 ASCII characters.")
    header = cast("Any", Nifti1Header)(endianness="<")
    header.set_data_dtype(values.dtype)
    header.set_data_shape(values.shape)
    header.set_zooms(spacing_mm(affine))
    header.set_xyzt_units("mm")
    header.set_slope_inter(1, 0)
    header["vox_offset"] = HEADER_BYTES
    header["descrip"] = description.encode("ascii")
    header.set_sform(affine, space_code)
    shape = cast("tuple[int, int, int]", values.shape)
    if _apart_voxels(shape, affine, header.get_sform()) > TOLERANCE_VOXELS / 10:
        raise DataError(
            f"{path}: affine: a NIfTI header (float32) moves it by more than 0.01 voxel. Move the origin nearer."
        )
    posed = _with_qform(header, shape, affine, space_code)
    return bytes((header if posed is None else posed).binaryblock) + bytes(4)


def has_qform(shape: tuple[int, int, int], affine: np.ndarray) -> bool:
    """Whether a rotation and a spacing place a volume as its affine does, to a tenth of a voxel.

    Where none does, since the axes are sheared, the file carries its position in the sform alone, and programs built
    on ITK refuse it.
    """
    return _with_qform(cast("Any", Nifti1Header)(endianness="<"), shape, affine, 1) is not None


def _with_qform(header: Any, shape: tuple[int, int, int], affine: np.ndarray, space_code: int) -> Any | None:
    """The header with the nearest rotation as its qform too; None where that lies too far away to be read again."""
    # The rotation nearest to a slightly sheared affine is the same about any point. About voxel (0, 0, 0), where the
    # header has its offset, all error would gather in the far corner: about the centre it is half as large.
    posed = header.copy()
    posed.set_qform(affine, space_code)
    if _apart_voxels(shape, affine, qform_affine(posed)) <= TOLERANCE_VOXELS / 10:
        return posed
    centre = (np.array(shape) - 1) / 2
    offset = affine[:3, :3] @ centre + affine[:3, 3] - qform_affine(posed)[:3, :3] @ centre
    posed["qoffset_x"], posed["qoffset_y"], posed["qoffset_z"] = offset
    return posed if _apart_voxels(shape, affine, qform_affine(posed)) < TOLERANCE_VOXELS else None


def _apart_voxels(shape: tuple[int, int, int], affine: np.ndarray, written: np.ndarray) -> float:
    return distance_mm(shape, affine, written) / min(spacing_mm(affine))


@contextmanager
def open_for_writing(path: Path) -> Iterator[BinaryIO]:
    """A new file to write to, compressed where the name says so."""
    with path.open("wb") as file:
        if is_compressed(path):
            # Without a name and a time, so that the same voxels give the same file. Level 1: voxels hardly repeat.
            with _GzipFile(filename="", mode="wb", compresslevel=1, fileobj=file, mtime=0) as packed:
                yield cast("BinaryIO", packed)
        else:
            yield file


@contextmanager
def new_nifti(
    path: Path, data: np.ndarray, affine: np.ndarray, space_code: int, description: str
) -> Iterator[tuple[Path, bytes, np.ndarray]]:
    """A temporary file that takes the name `path` when the block ends without an error.

    Yields:
        the temporary file, its header, and `data` in the type it is stored in.

    Raises:
        DataError: the name, the data or the position is none that can be stored and read again.
        SetupError: the disk is full, or the folder is missing or not writable.
    """
    check_ending(path, NIFTI_ENDINGS)
    values = storage_array(path, data)
    header = header_bytes(path, values, affine, space_code, description or f"medtrans {__version__}")
    try:
        check_unambiguous(path)
        with complete_file(path) as temporary:
            yield temporary, header, values
    except OSError as error:
        size = values.nbytes + HEADER_BYTES
        raise SetupError(f"{path}: cannot be written{_why_unwritable(path.parent, error, size)}") from error


def _why_unwritable(folder: Path, error: OSError, size: int) -> str:
    if not folder.is_dir():
        return f", since there is no folder {folder}. Make it, or correct the path."
    return (
        f" ({error.strerror or error}): up to {size:,} bytes are needed, {shutil.disk_usage(folder).free:,} are free "
        f"in {folder}. Free space, or choose a folder you may write to."
    )


def check_reads_back(path: Path, is_same: Callable[[], bool]) -> None:
    """Have what was written for `path` read and compared; a SetupError where it cannot be read, or differs."""
    try:
        same = is_same()
    except DataError as error:
        raise SetupError(f"{path}: what was written cannot be read back: {error} Check the disk.") from error
    if not same:
        raise SetupError(f"{path}: what was written reads back differently; the file was not kept. Check the disk.")
