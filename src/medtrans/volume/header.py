"""What a sound header says of an image, whatever its format."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["ImageHeader"]


@dataclass(frozen=True, eq=False)
class ImageHeader:
    """What a sound header says.

    Args:
        shape: voxels along i, j, k.
        stored: the voxels' type in the file, byte order included.
        offset: bytes before the first voxel.
        affine: `(4, 4)` float64, voxel indices to mm.
        space_code: NIfTI code of the space `affine` leads to.
        slope: factor to the physical value; 1 where nothing is scaled.
        inter: physical value of a stored 0; 0 where nothing is scaled.
        notes: the reading rules that were needed.
    """

    shape: tuple[int, int, int]
    stored: np.dtype[Any]
    offset: int
    affine: np.ndarray
    space_code: int = 1
    slope: float = 1.0
    inter: float = 0.0
    notes: tuple[str, ...] = ()

    @property
    def scaled(self) -> bool:
        """Whether the stored numbers are not yet the physical values."""
        return (self.slope, self.inter) != (1.0, 0.0)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type the voxels are handed out in: float32, or an unscaled integer's own."""
        return np.dtype(np.float32) if self.scaled or self.stored.kind == "f" else self.stored.newbyteorder("=")

    @property
    def voxel_bytes(self) -> int:
        """Bytes all voxels take, uncompressed."""
        return math.prod(self.shape) * self.stored.itemsize

    @property
    def end(self) -> int:
        """Bytes up to the end of the last voxel, uncompressed."""
        return self.offset + self.voxel_bytes
