"""Image files in and out, whatever their format."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medtrans.volume import itk_reader, nifti_reader
from medtrans.volume.header import NO_RULES, ReadingRules
from medtrans.volume.nifti_writer import check_reads_back, new_nifti, open_for_writing
from medtrans.volume.stream import IMAGE_ENDINGS, ITK_ENDINGS, check_ending, physical_values, reading_errors
from medtrans.volume.volume import Grid, Header, Volume


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
    with reading_errors(path):
        layout, stored = itk_reader.voxels_of(path, rules) if _is_itk(path) else nifti_reader.voxels_of(path, rules)
        values, filled = physical_values(path, stored, layout, rules)
    return Volume(values, layout.affine, layout.space_code, layout.notes + filled)


def read_header(path: Path | str, rules: ReadingRules = NO_RULES) -> Header:
    """Check a file as `read` does, as far as that goes without reading voxels.

    Raises:
        DataError: all faults found.
    """
    path = Path(path)
    with reading_errors(path):
        header = itk_reader.layout_of(path, rules) if _is_itk(path) else nifti_reader.layout_of(path, rules)
    return Header(path, Grid(header.shape, header.affine), header.space_code, header.dtype, header.notes)


def files_of(path: Path | str, rules: ReadingRules = NO_RULES) -> tuple[Path, ...]:
    """The files an image lies in: its own, and the one beside it where a `.mha`, `.mhd` or `.nrrd` header names one.

    Raises:
        DataError: as `read_header`, where there may be two.
    """
    path = Path(path)
    if path.name.lower().endswith(ITK_ENDINGS):
        with reading_errors(path):
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
    with new_nifti(path, volume.data, volume.affine, volume.space_code, description) as (temporary, header, values):
        with open_for_writing(temporary) as stream:
            stream.write(header)
            for k in range(values.shape[2]):
                stream.write(values[:, :, k].tobytes(order="F"))
        check_reads_back(path, lambda: _is_same(read(temporary), values, volume))


def _is_itk(path: Path) -> bool:
    check_ending(path, IMAGE_ENDINGS)
    return path.name.lower().endswith(ITK_ENDINGS)


def _is_same(back: Volume, values: np.ndarray, volume: Volume) -> bool:
    same = back.data.dtype == values.dtype.newbyteorder("=") and np.array_equal(back.data, values)
    placed = np.array_equal(back.affine, volume.affine.astype(np.float32)) and back.space_code == volume.space_code
    return same and placed
