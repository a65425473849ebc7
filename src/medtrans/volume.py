"""Volumes in world space, and the only way from and to image files: a guarded reader and a verified writer."""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medtrans import itk_guard, nifti_guard
from medtrans._version import __version__
from medtrans.atomic import complete_file
from medtrans.errors import DataError, SetupError
from medtrans.image_layout import Layout
from medtrans.image_stream import (
    IMAGE_ENDINGS,
    ITK_ENDINGS,
    NIFTI_ENDINGS,
    check_alone,
    check_ending,
    damage_named,
    is_image_file,
    stem_of,
)
from medtrans.nifti_writer import HEADER_BYTES, header_bytes, storable, write_file
from medtrans.placement import XFORM_CODES, affine_fault, corners_mm, distance_mm, orientation, spacing_mm
from medtrans.reading_rules import NO_RULES, ReadingRules
from medtrans.voxel_values import physical

if TYPE_CHECKING:
    import torchio

__all__ = [
    "IMAGE_ENDINGS",
    "NIFTI_ENDINGS",
    "NO_RULES",
    "Grid",
    "Header",
    "ReadingRules",
    "Volume",
    "files_of",
    "is_image_file",
    "read",
    "read_header",
    "stem_of",
    "unwritable_image",
    "write",
]


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
        return spacing_mm(self.affine)

    def corners_mm(self) -> np.ndarray:
        """World positions `(8, 3)` of the centres of the corner voxels."""
        return corners_mm(self.shape, self.affine)

    def distance_mm(self, other: Grid) -> float:
        """The largest distance between corners of the same index; infinite where the shapes differ."""
        if self.shape != other.shape:
            return math.inf
        return distance_mm(self.shape, self.affine, other.affine)


@dataclass(frozen=True, eq=False)
class Volume:
    """A 3-D image in world space.

    Args:
        data: `(i, j, k)`, booleans, integers or floats.
        affine: `(4, 4)`, voxel indices to world coordinates in mm; kept as float64.
        space_code: NIfTI code of the world space: 1 scanner, 2 aligned, 3 Talairach, 4 MNI, 5 other template.
        notes: the reading rules that were needed to read it, in words without a name or a path.

    Raises:
        DataError: the data are not 3-D or not real numbers, the affine is not finite or singular, or the code is none
            of 1 to 5.
    """

    data: np.ndarray
    affine: np.ndarray
    space_code: int = 1
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.data.ndim != 3 or self.data.dtype.kind not in "biuf":
            raise DataError(
                f"volume: found an array of shape {self.data.shape} and type {self.data.dtype}, "
                "expected three axes of booleans, integers or floats."
            )
        if self.space_code not in XFORM_CODES:
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
        return spacing_mm(self.affine)

    @property
    def orientation(self) -> str:
        """The anatomical direction nearest to that in which i, j and k grow, such as "RAS"."""
        return orientation(self.affine)

    @property
    def grid(self) -> Grid:
        """Where the voxels lie."""
        return Grid(self.shape, self.affine)

    def as_torchio(self) -> torchio.ScalarImage:
        """The same image for TorchIO, on the same voxels; its own types and no space code are all that TorchIO knows.

        Labels need `torchio.LabelMap(tensor=image.data, affine=image.affine)` of the result.
        """
        import torchio

        native = np.ascontiguousarray(self.data, self.data.dtype.newbyteorder("="))
        return torchio.ScalarImage(tensor=native[None].copy(), affine=self.affine)  # type: ignore[no-untyped-call]  # TorchIO's constructor has no annotations

    @classmethod
    def from_torchio(cls, image: torchio.Image) -> Volume:
        """A TorchIO image of one channel, as it stands; one that was not loaded is read now by TorchIO's reader.

        Raises:
            DataError: it has several channels, or its affine is not finite or singular.
        """
        channels = len(image.data)
        if channels != 1:
            raise DataError(f"volume: found a TorchIO image of {channels} channels, expected one; take one of them.")
        return cls(image.data[0].numpy(), image.affine)


@dataclass(frozen=True, eq=False)
class Header:
    """What is known of an image file before its voxels are read.

    Args:
        path: the file.
        grid: where its voxels lie.
        space_code: NIfTI code of the world space.
        dtype: the type `read` gives the voxels.
        notes: the reading rules that were needed, as far as no voxel has to be looked at.
    """

    path: Path
    grid: Grid
    space_code: int
    dtype: np.dtype[Any]
    notes: tuple[str, ...] = ()


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
        layout, stored = itk_guard.voxels_of(path, rules) if _is_itk(path) else nifti_guard.voxels_of(path, rules)
        values, filled = physical(path, stored, layout, rules)
    return Volume(values, layout.affine, layout.space_code, layout.notes + filled)


def read_header(path: Path | str, rules: ReadingRules = NO_RULES) -> Header:
    """Check a file as `read` does, as far as that goes without reading voxels.

    Raises:
        DataError: all faults found.
    """
    path = Path(path)
    with damage_named(path):
        layout: Layout = itk_guard.layout_of(path, rules) if _is_itk(path) else nifti_guard.layout_of(path, rules)
    return Header(path, Grid(layout.shape, layout.affine), layout.space_code, layout.dtype, layout.notes)


def files_of(path: Path | str, rules: ReadingRules = NO_RULES) -> tuple[Path, ...]:
    """The files an image lies in: its own, and the one beside it where a `.mha`, `.mhd` or `.nrrd` header names one.

    Raises:
        DataError: as `read_header`, where there may be two.
    """
    path = Path(path)
    if path.name.lower().endswith(ITK_ENDINGS):
        with damage_named(path):
            return tuple(dict.fromkeys((path, itk_guard.data_file(path, rules))))
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


def _sound_affine(affine: np.ndarray) -> np.ndarray:
    affine = np.array(affine, np.float64)
    if affine.shape != (4, 4) or affine[3].tolist() != [0, 0, 0, 1]:
        raise DataError(f"affine: found {affine.tolist()}, expected 4 × 4 numbers with 0, 0, 0, 1 in the last row.")
    if fault := affine_fault(affine):
        raise DataError(f"affine: {fault}.")
    return affine


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
