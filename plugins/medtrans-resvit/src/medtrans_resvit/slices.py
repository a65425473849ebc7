"""The way from volumes to slices and back: along which axis, with which neighbours, fitted to which size."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["BACKGROUND", "SLICED_AXIS", "Fit", "Plane", "Sides", "fit", "neighbours", "to_slices", "to_volume", "undo"]

Plane: TypeAlias = Literal["axial", "coronal", "sagittal"]
Fit: TypeAlias = Literal["pad", "resize"]
Sides: TypeAlias = tuple[int, int]

SLICED_AXIS = {"axial": 4, "coronal": 3, "sagittal": 2}
"""Axis of `(b, c, i, j, k)` in RAS+ order that a plane's slices are counted along."""

BACKGROUND = -1.0
"""Intensity around a slice, in the networks' own range of [-1, 1]."""


def to_slices(volume: Tensor, axis: int) -> Tensor:
    """The slices of `(b, c, i, j, k)` as images `(b * n, c, h, w)`, volume by volume."""
    return volume.movedim(axis, 1).flatten(0, 1)


def to_volume(slices: Tensor, volumes: int, axis: int) -> Tensor:
    """The inverse of `to_slices`."""
    return slices.reshape(volumes, -1, *slices.shape[1:]).movedim(1, axis)


def neighbours(volume: Tensor, axis: int, count: int) -> Tensor:
    """Each slice with its neighbours as further channels, `(b, c * count, i, j, k)`.

    The channels of the slice before come first; the first and last slice are their own neighbours.

    Args:
        volume: `(b, c, i, j, k)`.
        axis: that slices are counted along.
        count: slices seen together, odd; the slice itself is in the middle.
    """
    if count == 1:
        return volume
    places = torch.arange(volume.shape[axis], device=volume.device)
    reach = count // 2
    shifted = [(places + offset).clamp(0, len(places) - 1) for offset in range(-reach, reach + 1)]
    return torch.cat([volume.index_select(axis, each) for each in shifted], dim=1)


def fit(slices: Tensor, size: Sides, how: Fit) -> Tensor:
    """Slices `(n, c, h, w)` in [-1, 1] at another size.

    Args:
        slices: any size.
        size: sides wanted.
        how: `pad` with background around the middle, cutting off what stands out; or `resize`, linearly.
    """
    sides = (slices.shape[2], slices.shape[3])
    if sides == size:
        return slices
    if how == "pad":
        return functional.pad(slices, _margins(sides, size), value=BACKGROUND)
    return _resized(slices, size)


def undo(slices: Tensor, sides: Sides, how: Fit) -> Tensor:
    """Slices that `fit` brought to another size back at `sides`; what it cut off is background."""
    size = (slices.shape[2], slices.shape[3])
    if sides == size:
        return slices
    if how == "pad":
        return functional.pad(slices, [-margin for margin in _margins(sides, size)], value=BACKGROUND)
    return _resized(slices, sides)


def _margins(sides: Sides, size: Sides) -> list[int]:
    """Voxels to add at either end, the last axis first; negative ones are cut off."""
    margins: list[int] = []
    for side, wanted in zip(reversed(sides), reversed(size), strict=True):
        lacking = wanted - side
        # The odd voxel goes in front, where a patch larger than its volume has it too.
        before = -(-lacking // 2)
        margins += [before, lacking - before]
    return margins


def _resized(slices: Tensor, size: Sides) -> Tensor:
    shrinks = size[0] < slices.shape[2] or size[1] < slices.shape[3]
    # Not every device resizes in bfloat16.
    slices = slices if slices.dtype == torch.float64 else slices.float()
    return functional.interpolate(slices, size=size, mode="bilinear", align_corners=False, antialias=shrinks)
