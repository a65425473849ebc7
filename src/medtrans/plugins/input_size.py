"""What the sides of an image must be for a network to take it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import nn


def multiple_of(network: nn.Module) -> tuple[int, int, int]:
    """What the sides of a network's input must divide by."""
    multiple = getattr(network, "multiple", 1)
    return (multiple,) * 3 if isinstance(multiple, int) else tuple(multiple)


def common_multiple(networks: Iterable[nn.Module]) -> tuple[int, int, int]:
    """What the sides of an input must divide by so that each of the networks takes it."""
    first, second, third = (math.lcm(*steps) for steps in zip(*map(multiple_of, networks), strict=True))
    return first, second, third


def padded_sides(sides: tuple[int, ...], multiple: tuple[int, int, int]) -> tuple[int, int, int]:
    """The sides rounded up to the multiple."""
    first, second, third = (math.ceil(side / step) * step for side, step in zip(sides, multiple, strict=True))
    return first, second, third
