"""What a sound header says of an image, and the rules by which a doubtful one is read all the same."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from medtrans.errors import ConfigError

_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class ReadingRules:
    """How an image is read whose header or voxels leave a doubt; without a rule it is refused.

    A rule changes nothing for an image that needs none. Where one was needed, `Volume.notes` says so.

    Args:
        trust: the NIfTI form that places a volume whose sform and qform disagree, or of which one cannot be used.
        accept_unknown_space: whether a file that names no space is read all the same, in scanner space. NIfTI with
            both codes 0 is placed by NIfTI's method 1: pixdim gives the spacing, i grows to the right, j to the front,
            k upwards, and the first voxel lies at 0. In MetaImage a missing `Offset` counts as 0 and a missing
            `TransformMatrix` as identity; the axes of an NRRD file in an unnamed space count as left, posterior,
            superior.
        fill_not_finite: the physical value that takes the place of NaN and infinite voxels; finite, in float32.

    Raises:
        ConfigError: a rule is none of these.
    """

    trust: Literal["sform", "qform"] | None = None
    accept_unknown_space: bool = False
    fill_not_finite: float | None = None

    def __post_init__(self) -> None:
        faults = []
        if self.trust not in (None, "sform", "qform"):
            faults.append(f"reading.trust: found {self.trust!r}, expected sform, qform or nothing.")
        if not isinstance(self.accept_unknown_space, bool):
            faults.append(f"reading.accept_unknown_space: found {self.accept_unknown_space!r}, expected true or false.")
        fill = self.fill_not_finite
        if fill is not None and not (math.isfinite(fill) and abs(fill) <= _LARGEST):
            faults.append(f"reading.fill_not_finite: found {fill}, expected a finite number within float32.")
        if faults:
            raise ConfigError(*faults)


TO_ACCEPT_UNKNOWN_SPACE = "set reading.accept_unknown_space: true (--reading accept_unknown_space=true)"
"""The advice where no space is named, to a config's author and on a command line."""

NO_RULES = ReadingRules()
"""Whatever leaves a doubt is refused."""


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
