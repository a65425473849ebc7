"""Image files in and out, whatever their format."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medtrans._version import __version__
from medtrans.errors import DataError, SetupError
from medtrans.utils.files import complete_file
from medtrans.volume import itk_reader, nifti_reader
from medtrans.volume.nifti_writer import HEADER_BYTES, header_bytes, storable, write_file
from medtrans.volume.rules import NO_RULES, ReadingRules
from medtrans.volume.stream import (
    IMAGE_ENDINGS,
    ITK_ENDINGS,
    NIFTI_ENDINGS,
    check_alone,
    check_ending,
    damage_named,
    physical,
)
from medtrans.volume.volume import Grid, Header, Volume

if TYPE_CHECKING:
    pass

__all__ = ["files_of", "read", "read_header", "unwritable_image", "write"]


def read(path: Path | str, rules: ReadingRules = NO_RULES) -> Volume:
    """Read a `.nii`, `.nii.gz`, `.mha`, `.mhd` or `.nrrd` file whose position, size and values are beyond doubt.

    Floating and scaled voxels come as float32 in physical values, others in their own integer type. In NIfTI the
    sform places the volume where its code is set, else the qform, and a fourth axis of length 1 is dropped; the other
    formats' left-posterior-superior world becomes right-anterior-superior.

    Args:
        path: the file.
        rules: how to read what would otherwise be refused; those that were needed are in the volume's notes.

    Raises:
        DataError: the file is missing, ambiguous, damaged, not placed in space or holds NaN; all faults of a header
            are reported at once.
        SetupError: the voxels do not fit into memory.
    """
    path = Path(path)
    with damage_named(path):
        layout, stored = itk_reader.voxels_of(path, rules) if _is_itk(path) else nifti_reader.voxels_of(path, rules)
        values, filled = physical(path, stored, layout, rules)
    return Volume(values, layout.affine, layout.space_code, layout.notes + filled)


def read_header(path: Path | str, rules: ReadingRules = NO_RULES) -> Header:
    """Check a file as `read` does, as far as that goes without reading voxels.

    Raises:
        DataError: all faults found.
    """
    path = Path(path)
    with damage_named(path):
        header = itk_reader.layout_of(path, rules) if _is_itk(path) else nifti_reader.layout_of(path, rules)
    return Header(path, Grid(header.shape, header.affine), header.space_code, header.dtype, header.notes)


def files_of(path: Path | str, rules: ReadingRules = NO_RULES) -> tuple[Path, ...]:
    """The files an image lies in: its own, and the one beside it where a `.mha`, `.mhd` or `.nrrd` header names one.

    Raises:
        DataError: as `read_header`, where there may be two.
    """
    path = Path(path)
    if path.name.lower().endswith(ITK_ENDINGS):
        with damage_named(path):
            return tuple(dict.fromkeys((path, itk_reader.data_file(path, rules))))
    return (path,)


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
    check_ending(path, NIFTI_ENDINGS)
    values = storable(path, volume.data)
    header = header_bytes(path, values, volume.affine, volume.space_code, description or f"medtrans {__version__}")
    try:
        check_alone(path)
        with complete_file(path) as temporary:
            write_file(temporary, header, values)
            _compare(path, temporary, values, volume)
    except OSError as error:
        raise SetupError(unwritable_image(path, error, values.nbytes + HEADER_BYTES)) from error


def _is_itk(path: Path) -> bool:
    check_ending(path, IMAGE_ENDINGS)
    return path.name.lower().endswith(ITK_ENDINGS)


def _compare(path: Path, written: Path, values: np.ndarray, volume: Volume) -> None:
    try:
        back = read(written)
    except DataError as error:
        raise SetupError(f"{path}: what was written cannot be read back: {error} Check the disk.") from error
    same = back.data.dtype == values.dtype.newbyteorder("=") and np.array_equal(back.data, values)
    placed = np.array_equal(back.affine, volume.affine.astype(np.float32)) and back.space_code == volume.space_code
    if not (same and placed):
        raise SetupError(f"{path}: what was written reads back differently; the file was not kept. Check the disk.")


def unwritable_image(path: Path, error: OSError, size: int) -> str:
    """Why an image of up to `size` bytes could not be written."""
    if not path.parent.is_dir():
        return f"{path}: cannot be written, since there is no folder {path.parent}. Make it, or correct the path."
    free = shutil.disk_usage(path.parent).free
    return (
        f"{path}: cannot be written ({error.strerror or error}): up to {size:,} bytes are needed, {free:,} are free in "
        f"{path.parent}. Free space, or choose a folder you may write to."
    )
