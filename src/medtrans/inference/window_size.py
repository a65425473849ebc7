"""Which windows a volume is translated by where the config leaves it open, from the network's receptive field."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypedDict

import torch
from torch import Tensor, nn

from medtrans.plugins.input_size import common_multiple, padded_sides

__all__ = ["Windows", "chosen_overlap", "chosen_window", "receptive_field"]


_LEAST, _MOST = 0.25, 0.625  # the paper takes the upper one
_UNKNOWN = 0.5


class Windows(TypedDict):
    """How a volume is cut up; as `sliding_window` takes it."""

    window: tuple[int, int, int]
    overlap: float
    blend: str
    batch: int
    multiple: tuple[int, int, int]


def chosen_window(
    given: Sequence[int] | None, patch: Sequence[int], networks: Sequence[nn.Module], shape: Sequence[int]
) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """The sides of a window and what they divide by.

    What the config asks for, else the generator, else the training patch. Not more than the patch, though fewer and
    larger windows were quicker: a network that pads its coarse levels, or attends to a whole patch, has learnt what a
    patch of that size looks like, and translates larger windows worse.

    Args:
        given: by the config.
        patch: sides of the training patch.
        networks: of the method.
        shape: of the volume, which stands for None in what a generator asks for.
    """
    multiple = common_multiple(networks)
    asked: Any = next((network.window for network in networks if hasattr(network, "window")), None)
    whole = padded_sides(tuple(shape), multiple)
    first, second, third = (side or extent for side, extent in zip(given or asked or patch, whole, strict=True))
    return (first, second, third), multiple


def chosen_overlap(reached: Sequence[int] | None, window: Sequence[int], shape: Sequence[int]) -> float:
    """The overlap at which a voxel midway between two windows' centres has what it depends on in both of them.

    Such a voxel lies half an overlap from the border of each. It is bounded to [0.25, 0.625].

    Args:
        reached: how far the network looks along each axis; None where nobody knows.
        window: sides of a window.
        shape: of the volume; axes along which it fits into a window do not count.
    """
    if reached is None:
        return _UNKNOWN
    shares = [2 * far / side for far, side, extent in zip(reached, window, shape, strict=True) if extent > side]
    return min(_MOST, max([_LEAST, *shares]))


_ENOUGH = 0.95  # of a change's effect; the rest is spread thinly, by attention over the whole window
_PLACES = (0.375, 0.5, 0.625)  # along the window's diagonal, where the source is changed
_CHANGE = 0.2  # of [0, 1]


def receptive_field(
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
