"""The edge layer: the strength of a 3D Sobel filter, squashed into [-1, 1)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["BACKGROUND", "edges", "sobel"]

BACKGROUND = -1.0
"""What lies around an image whose intensities are in [-1, 1]; another value would draw a shell on every face."""


_Filter: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]


def sobel(image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The responses of the three 3^3 Sobel kernels, each channel by itself.

    The kernel of an axis is `[1, 0, -1]` along it times `[1, 2, 1]` along each of the others. It is a product over
    axes, so that three short filters take the place of one of 27 weights; the values are the same.

    Args:
        image: `(b, c, i, j, k)` in [-1, 1].

    Returns:
        Along i, j and k; the image's own size, with `BACKGROUND` around it.
    """
    padded = functional.pad(image, (1,) * 6, value=BACKGROUND)
    along_i, along_j, along_k = (
        _filtered(padded, [_slope if axis == steep else _smooth for axis in (2, 3, 4)]) for steep in (2, 3, 4)
    )
    return along_i, along_j, along_k


def edges(image: Tensor) -> Tensor:
    """The edge map of Ea-GAN: `2 tanh(g) - 1`, where g is the length of the three responses divided by 4.

    A flat region of `BACKGROUND` gives exactly -1, and so does any flat region away from the border; there the
    gradient is 0. Without weights, and computed in the precision of `image` also under autocast.

    Args:
        image: `(b, c, i, j, k)` in [-1, 1].

    Returns:
        `(b, c, i, j, k)` in [-1, 1).
    """
    # Not the root of a sum of squares, whose gradient is infinite where nothing changes.
    strength = torch.linalg.vector_norm(torch.stack(sobel(image)), dim=0) / 4
    return 2 * torch.tanh(strength) - 1


def _filtered(padded: Tensor, filters: list[_Filter]) -> Tensor:
    for axis, along in zip((2, 3, 4), filters, strict=True):
        sides = padded.shape[axis] - 2
        before, here, after = (padded.narrow(axis, start, sides) for start in range(3))
        padded = along(before, here, after)
    return padded


def _slope(before: Tensor, here: Tensor, after: Tensor) -> Tensor:
    return before - after


def _smooth(before: Tensor, here: Tensor, after: Tensor) -> Tensor:
    return before + 2 * here + after
