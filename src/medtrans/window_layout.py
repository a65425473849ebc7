"""Owns where the windows over a volume lie and what their voxels weigh where several cover one another."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import ceil
from typing import TYPE_CHECKING

import torch

from medtrans.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

__all__ = ["WindowLayout", "box_at", "check_windows", "window_layout"]

_SIGMA = 0.125  # of the window's side; what the paper and MONAI take
_FLOOR = 1e-3  # least weight along an axis, so that a voxel which only a window's border sees keeps its digits


@dataclass(frozen=True)
class WindowLayout:
    """Windows over a volume, as many as the overlap asks for and spread evenly.

    Weights are a product over axes, and so is their sum over all windows: no volume of weights is kept.

    Args:
        sides: of a window, in voxels.
        shape: of the volume, padded so that no side is less than the window's.
        before: voxels of background put before each axis.
        starts: where windows begin, along each axis.
        profiles: weight of a window's voxels, along each axis.
    """

    sides: tuple[int, int, int]
    shape: tuple[int, int, int]
    before: tuple[int, int, int]
    starts: tuple[list[int], list[int], list[int]]
    profiles: tuple[Tensor, Tensor, Tensor]

    @cached_property
    def weights(self) -> Tensor:
        """`sides`: the weight of each voxel of a window."""
        i, j, k = self.profiles
        return i[:, None, None] * j[:, None] * k

    def shares(self, axis: int) -> Tensor:
        """1 over the sum of all windows' weights, along an axis of the padded volume."""
        total, profile = torch.zeros(self.shape[axis]), self.profiles[axis]
        for start in self.starts[axis]:
            total[start : start + len(profile)] += profile
        return 1 / total


def window_layout(
    shape: Sequence[int], *, window: Sequence[int], overlap: float, blend: str, multiple: Sequence[int]
) -> WindowLayout:
    """The windows over a volume of `shape`, as `sliding_window` says."""
    sides = [ceil(side / step) * step for side, step in zip(window, multiple, strict=True)]
    lacking = [max(0, side - extent) for side, extent in zip(sides, shape, strict=True)]
    padded = [extent + lack for extent, lack in zip(shape, lacking, strict=True)]
    first, second, third = (_starts(extent, side, overlap) for extent, side in zip(padded, sides, strict=True))
    i, j, k = (_profile(side, blend) for side in sides)
    return WindowLayout(
        _triple(sides), _triple(padded), _triple([lack // 2 for lack in lacking]), (first, second, third), (i, j, k)
    )


def check_windows(overlap: float, blend: str, batch: int) -> None:
    """Refuse settings that no windows can be made by.

    Raises:
        ConfigError: each that is out of range.
    """
    faults = []
    if not 0 <= overlap < 1:
        faults.append(f"inference.overlap: expected at least 0 and less than 1, found {overlap:g}")
    if blend not in ("gaussian", "constant"):
        faults.append(f"inference.blend: expected gaussian or constant, found {blend!r}")
    if batch < 1:
        faults.append(f"inference.batch: expected at least 1, found {batch}")
    if faults:
        raise ConfigError(*faults)


def box_at(corner: Sequence[int], sides: Sequence[int]) -> tuple[slice, ...]:
    """What is between a corner and the opposite one, of a tensor `(b, c, i, j, k)`."""
    along = (slice(start, start + side) for start, side in zip(corner, sides, strict=True))
    return slice(None), slice(None), *along


def _starts(extent: int, side: int, overlap: float) -> list[int]:
    """Where windows begin along an axis: at both ends and evenly between."""
    step = max(1, int(side * (1 - overlap) + 1e-9))
    last = extent - side
    count = ceil(last / step)
    return [round(last * index / count) for index in range(count + 1)] if count else [0]


def _profile(side: int, blend: str) -> Tensor:
    if blend == "constant":
        return torch.ones(side)
    distance = (torch.arange(side) - (side - 1) / 2) / (_SIGMA * side)
    return torch.exp(-0.5 * distance**2).clamp_min(_FLOOR)


def _triple(sides: Sequence[int]) -> tuple[int, int, int]:
    i, j, k = sides
    return i, j, k
