"""The aggregated residual transformer (ART) blocks of ResViT's bottleneck, plain and with a transformer."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from medtrans_resvit.blocks import ResidualBlock, SliceNorm, down, up
from medtrans_resvit.slices import Sides
from medtrans_resvit.transformer import Encoder

__all__ = ["ARTBlock", "Compression", "TransformerARTBlock"]


class ARTBlock(nn.Module):
    """An ART block without transformer: one residual block.

    Args:
        channels: in and out.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.residual = ResidualBlock(channels)

    def forward(self, features: Tensor) -> Tensor:
        found: Tensor = self.residual(features)
        return found


class Compression(nn.Module):
    """From twice the channels to once: two 3^2 convolutions beside a 1^2 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(2 * channels, channels, kernel_size=3, padding=1, bias=False),
            SliceNorm(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=False),
            SliceNorm(channels),
        )
        self.skip = nn.Sequential(nn.Conv2d(2 * channels, channels, kernel_size=1, bias=False), SliceNorm(channels))

    def forward(self, features: Tensor) -> Tensor:
        return functional.relu(self.main(features) + self.skip(features))


class TransformerARTBlock(ARTBlock):
    """An ART block with a transformer: tokens at a quarter of the resolution, joined with what came in.

    The encoder is shared with other blocks and belongs to whoever made it: it is no submodule here, so that its
    weights stand once among a network's parameters and once in a checkpoint.

    Args:
        channels: in and out.
        encoder: the shared transformer.
        grid: tokens along either side that the position table is made for.
        dim: channels of a token.
        embed_channels: channels that the embedding reads.
        dropout: of the embedded tokens.

    Shapes:
        `(n, channels, h, w)` to the same; both sides divide by 4.
    """

    def __init__(
        self, channels: int, encoder: Encoder, grid: Sides, *, dim: int, embed_channels: int, dropout: float
    ) -> None:
        super().__init__(channels)
        self._shared = (encoder,)  # a tuple, since a module among a module's attributes becomes its submodule
        self.grid = grid
        self.down = nn.Sequential(down(channels, 2 * channels), down(2 * channels, embed_channels))
        self.embed = nn.Conv2d(embed_channels, dim, kernel_size=1)
        self.position = nn.Parameter(torch.zeros(1, grid[0] * grid[1], dim))
        self.dropout = nn.Dropout(dropout)
        self.up = nn.Sequential(up(dim, 2 * channels), up(2 * channels, channels))
        self.compress = Compression(channels)

    @property
    def encoder(self) -> Encoder:
        """The shared transformer."""
        return self._shared[0]

    def forward(self, features: Tensor) -> Tensor:
        joined = torch.cat((self.up(self.attend(self.down(features))), features), dim=1)
        found: Tensor = self.residual(self.compress(joined))
        return found

    def attend(self, features: Tensor) -> Tensor:
        """The transformer on `(n, embed_channels, h, w)`, one token a pixel, row by row."""
        embedded = self.embed(features)
        grid = (embedded.shape[2], embedded.shape[3])
        tokens = embedded.flatten(2).transpose(1, 2) + self.positions(grid)
        found: Tensor = self.encoder(self.dropout(tokens))
        return found.transpose(1, 2).reshape(len(found), -1, *grid)

    def positions(self, grid: Sides) -> Tensor:
        """The position table, interpolated where the tokens are more or fewer than it was made for."""
        if grid == self.grid:
            return self.position
        table = self.position.transpose(1, 2).reshape(1, -1, *self.grid)
        return functional.interpolate(table, size=grid, mode="bilinear", align_corners=False).flatten(2).transpose(1, 2)
