"""How one scan is known under two names: by its voxels, whatever its file, its compression and its orientation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np

from medtrans.volume.resampling import canonical, regrid

if TYPE_CHECKING:
    from medtrans.data.cohort import Member
    from medtrans.volume import Volume

__all__ = ["Duplicates", "array_digest", "twins", "voxel_digest"]


@dataclass(frozen=True)
class Duplicates:
    """Two cases in two splits that hold the same voxels.

    Args:
        earlier: one of them.
        later: the other.
        held: what holds the same voxels in both: a modality, or "source" or "target" as networks see them.
    """

    earlier: Member
    later: Member
    held: str

    def __str__(self) -> str:
        return (
            f'case "{self.earlier.case.case}" in {self.earlier.split} and case "{self.later.case.case}" in '
            f"{self.later.split} hold identical {self.held} voxels: scores would be too good. Remove one"
        )


def twins(members: Sequence[Member], digests: Sequence[Mapping[str, str]]) -> list[Duplicates]:
    """The pairs of cases in two splits that share a digest under one name, each pair once.

    Args:
        members: the cases.
        digests: for each of them, by name.
    """
    found: dict[tuple[int, int], Duplicates] = {}
    for name in dict.fromkeys(name for own in digests for name in own):
        first: dict[str, Member] = {}
        for member, own in zip(members, digests, strict=True):
            earlier = first.setdefault(own[name], member) if name in own else member
            if earlier.split != member.split:
                found.setdefault((earlier.number, member.number), Duplicates(earlier, member, name))
    return list(found.values())


def voxel_digest(image: Volume) -> str | None:
    """A hash of the values in RAS+ order; None for a constant image, which is no scan.

    Values count as float32, so that a copy stored as another type is the same. Where the voxels lie does not count.
    """
    values = regrid(image.data, image.grid, canonical(image.grid))
    return None if values.min() == values.max() else array_digest(values)


def array_digest(values: np.ndarray) -> str:
    """A hash of an array's shape and values."""
    state = blake2b(str(values.shape).encode(), digest_size=16)
    for plane in values:  # one at a time: a copy of the whole would double the memory
        state.update((plane.astype(np.float32) + np.float32(0)).tobytes())  # the sum makes -0.0 the 0.0 it equals
    return state.hexdigest()
