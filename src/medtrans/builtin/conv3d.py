"""The 3^3 convolution of the built-in networks, which takes a quicker way on a CPU where torch has a slow one."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["Conv3", "conv_in_halves"]

SMALL = 20480
"""Channels x i x j of a single image up to which torch computes a convolution in float32 without oneDNN."""


class Conv3(nn.Conv3d):
    """A 3^3 convolution that keeps the sides.

    On a CPU torch gives convolutions of one small image to a plain loop, three times slower than what it uses for a
    batch. Such an image is therefore passed as a batch of its two halves. The value is the same.

    Args:
        in_channels: before.
        out_channels: behind.

    Shapes:
        `(b, in_channels, i, j, k)` to `(b, out_channels, i, j, k)`.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size=3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        if features.device.type == "cpu" and features.dtype == torch.float32 and _is_slow(features):
            return conv_in_halves(features, self.weight, self.bias)
        return super().forward(features)


def conv_in_halves(features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The 3^3 convolution of one image, as that of a batch of its halves along i, each with a plane of the other.

    Args:
        features: `(1, c, i, j, k)`, i even.
        weight: `(d, c, 3, 3, 3)`.
        bias: `(d,)`.

    Returns:
        `(1, d, i, j, k)`.
    """
    half = features.shape[2] // 2
    padded = functional.pad(features, (0, 0, 0, 0, 1, 1))
    halves = torch.cat((padded[:, :, : half + 2], padded[:, :, half:]))
    both = functional.conv3d(halves, weight, bias, padding=(0, 1, 1))
    return torch.cat((both[:1], both[1:]), dim=2)


def _is_slow(features: Tensor) -> bool:
    b, c, i, j, _ = features.shape
    # A single channel gains nothing from oneDNN.
    return b == 1 and c > 1 and c * i * j <= SMALL and i % 2 == 0
