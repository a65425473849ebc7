"""Owns which windows a volume is translated by, where the config leaves it open."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict

from torch import nn

from medtrans.network_sides import common_multiple, padded_sides

__all__ = ["Windows", "chosen_overlap", "chosen_window"]

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
