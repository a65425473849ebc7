"""Owns how far a network looks: over how many voxels a change of its source changes its translation."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

__all__ = ["reach"]

_ENOUGH = 0.95  # of a change's effect; the rest is spread thinly, by attention over the whole window
_PLACES = (0.375, 0.5, 0.625)  # along the window's diagonal, where the source is changed
_CHANGE = 0.2  # of [0, 1]


def reach(
    translate: Callable[[Tensor], Tensor], channels: int, window: Sequence[int], multiple: Sequence[int]
) -> tuple[int, int, int] | None:
    """How many voxels beside a changed block 95 % of the change in the translation lie within, along each axis.

    Blocks of `multiple` voxels, so that every phase of a strided network is met, are changed in smooth noise at a few
    places of a window. The farthest of the answers counts.

    Args:
        translate: from `(b, channels, *window)` to `(b, c_out, *window)`.
        channels: of the source.
        window: sides of a window.
        multiple: what the window's sides divide by.

    Returns:
        None where no change changes anything, or the answers are not finite.
    """
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, channels, *(max(2, side // 4) for side in window), generator=generator)
    source = 0.25 + 0.5 * torch.nn.functional.interpolate(coarse, size=tuple(window), mode="trilinear")
    plain = translate(source.clone()).float().cpu()
    farthest = [0, 0, 0]
    for share in _PLACES:
        starts = [int(share * side) // step * step for side, step in zip(window, multiple, strict=True)]
        ends = [min(start + step, side) for start, step, side in zip(starts, multiple, window, strict=True)]
        changed = source.clone()
        changed[..., starts[0] : ends[0], starts[1] : ends[1], starts[2] : ends[2]] += _CHANGE
        effect = (translate(changed).float().cpu() - plain).abs().sum((0, 1)).double()
        if not bool(torch.isfinite(effect).all()) or float(effect.sum()) == 0:
            return None
        for axis in range(3):
            along = effect.sum([other for other in range(3) if other != axis])
            farthest[axis] = max(farthest[axis], _within(along, starts[axis], ends[axis]))
    first, second, third = farthest
    return first, second, third


def _within(along: Tensor, start: int, end: int) -> int:
    """The least distance from the block within which enough of the effect lies."""
    total = float(along.sum())
    for far in range(len(along)):
        if float(along[max(0, start - far) : end + far].sum()) >= _ENOUGH * total:
            return far
    return len(along)
