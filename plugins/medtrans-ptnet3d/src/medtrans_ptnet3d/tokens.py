"""The tokens of PTNet3D: unfolding a volume into them, folding them back, and their position table."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["NEIGHBOURHOOD", "PositionTable", "from_tokens", "sinusoid", "to_tokens", "unfold"]

NEIGHBOURHOOD = 27
"""Voxels of a 3^3 neighbourhood."""

Sides = tuple[int, int, int]


def to_tokens(volume: Tensor) -> Tensor:
    """`(b, c, i, j, k)` as tokens `(b, i * j * k, c)`, the last axis quickest."""
    return volume.flatten(2).transpose(1, 2)


def from_tokens(tokens: Tensor, sides: Sides) -> Tensor:
    """The inverse of `to_tokens`."""
    return tokens.transpose(1, 2).reshape(len(tokens), -1, *sides)


def unfold(volume: Tensor, stride: int) -> Tensor:
    """The 3^3 neighbourhood of each voxel, or of every `stride`-th, as tokens.

    Beyond the border everything is 0. A token holds one channel's neighbourhood after the other.

    Args:
        volume: `(b, c, i, j, k)`.
        stride: voxels from one neighbourhood to the next.

    Returns:
        `(b, ceil(i / stride) * ceil(j / stride) * ceil(k / stride), c * 27)`.
    """
    blocks = functional.pad(volume, (1,) * 6)
    for axis in (2, 3, 4):
        blocks = blocks.unfold(axis, 3, stride)
    return blocks.permute(0, 2, 3, 4, 1, 5, 6, 7).flatten(4).flatten(1, 3)


def sinusoid(tokens: int, dim: int, device: torch.device | None = None) -> Tensor:
    """Sines and cosines of each token's place, `(1, tokens, dim)` (Vaswani et al. 2017)."""
    place = torch.arange(tokens, dtype=torch.float64, device=device)[:, None]
    column = torch.arange(dim, device=device)
    angle = place / 10000.0 ** (2 * (column // 2) / dim)
    return torch.where(column % 2 == 0, angle.sin(), angle.cos()).float()[None]


class PositionTable(nn.Module):
    """Adds the sinusoid table to tokens, however many they are.

    The table of the usual number of tokens is kept as a frozen parameter, as in the original; another is computed when
    it is first needed and kept until yet another is.

    Args:
        tokens: the usual number.
        dim: channels of a token.
    """

    def __init__(self, tokens: int, dim: int) -> None:
        super().__init__()
        self.table = nn.Parameter(sinusoid(tokens, dim), requires_grad=False)
        self._other: Tensor | None = None

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens + self.rows(tokens.shape[1]).to(tokens.dtype)

    def rows(self, count: int) -> Tensor:
        """The table for `count` tokens; fewer are the first of more."""
        if count <= self.table.shape[1]:
            return self.table[:, :count]
        if self._other is None or self._other.shape[1] != count or self._other.device != self.table.device:
            self._other = sinusoid(count, self.table.shape[2], self.table.device)
        return self._other
