"""The images that networks are tried on: noise, constants, and the extremes of [0, 1]."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TypeAlias

import torch
from torch import Tensor

__all__ = ["PATTERNS", "Sides", "pattern"]

Sides: TypeAlias = tuple[int, int, int]

PATTERNS: Mapping[str, str] = MappingProxyType(
    {
        "zeros": "an image of zeros",
        "ones": "an image of ones",
        "half": "an image of one half everywhere",
        "step": "an image that steps from 0 to 1",
        "voxel": "an image of zeros with one voxel of 1",
    }
)
"""The names of constant and extreme images, and what each is called in a verdict."""


def pattern(fill: str, batch: int, channels: int, sides: Sides, *, seed: int = 0) -> Tensor:
    """An image `(b, c, i, j, k)` in [0, 1]: "noise", or one of `PATTERNS`."""
    shape = (batch, channels, *sides)
    if fill == "noise":
        return torch.rand(shape, generator=torch.Generator().manual_seed(seed))
    image = torch.zeros(shape)
    match fill:
        case "ones":
            image += 1
        case "half":
            image += 0.5
        case "step":
            image[:, :, sides[0] // 2 :] = 1
        case "voxel":
            image[:, :, sides[0] // 2, sides[1] // 2, sides[2] // 2] = 1
    return image
