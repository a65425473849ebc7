"""A volume in world space: voxels, affine, and what may be asked of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medtrans.errors import DataError
from medtrans.volume.affine import XFORM_CODES, affine_fault, corners_mm, distance_mm, orientation, spacing_mm

if TYPE_CHECKING:
    import torchio


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


def _sound_affine(affine: np.ndarray) -> np.ndarray:
    affine = np.array(affine, np.float64)
    if affine.shape != (4, 4) or affine[3].tolist() != [0, 0, 0, 1]:
        raise DataError(f"affine: found {affine.tolist()}, expected 4 × 4 numbers with 0, 0, 0, 1 in the last row.")
    if fault := affine_fault(affine):
        raise DataError(f"affine: {fault}.")
    return affine
