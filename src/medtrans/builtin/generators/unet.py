"""The plain 3D U-Net: the generator of pix2pix in 3D, and a segmenter where its outputs are class logits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from medtrans.builtin.blocks import LEAK, Conv3, Count, Norm, check_sides, norm_layer

__all__ = ["UNet"]


class UNet(nn.Module):
    """A U-Net that halves the resolution at once (the generator of Isola et al., "pix2pix", CVPR 2017, in 3D).

    No convolution runs at full resolution: a 4^3 convolution of stride 2 enters each level and a transposed one leaves
    it, with skip connections between. Features double at each level, up to eight times `width`. Layers that would
    erase what an image's absolute intensities are stay without norm, as in pix2pix: the first, the coarsest, the last.

    Differs from pix2pix: the output is not bounded by tanh, since intensities are clipped at translation only and
    logits of classes have no bounds; there is no dropout; `convs` may add convolutions to each level; weights start
    as torch draws them.

    Args:
        in_channels: source channels.
        out_channels: target channels, or classes.
        width: features of the finest level, at half the resolution; pix2pix has 64.
        levels: halvings of the resolution.
        convs: 3^3 convolutions behind each change of resolution; pix2pix has none.
        norm: between a convolution and its activation; `instance` is pix2pix's batch norm at its batch of 1.
        residual: write a change of the source, 0 before training, rather than the target itself. Needs as many
            outputs as inputs.

    Attributes:
        multiple: the sides of a source must divide by it, `2^levels`.

    Shapes:
        source `(b, in_channels, i, j, k)` to `(b, out_channels, i, j, k)`.

    Raises:
        ValueError: `residual` with another number of outputs than inputs.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        width: Count = 32,
        levels: Count = 4,
        convs: Annotated[int, Field(ge=0)] = 1,
        norm: Norm = "instance",
        residual: bool = False,
    ) -> None:
        super().__init__()
        if residual and in_channels != out_channels:
            raise ValueError(
                f"{type(self).__name__}: residual adds the source to the output and needs as many targets as sources; "
                f"found {in_channels} sources and {out_channels} targets. Set residual: false"
            )
        self.convs, self.norm, self.residual = convs, norm, residual
        self.multiple = 2**levels
        channels = [width * min(2**level, 8) for level in range(levels)]
        self.encoders = nn.ModuleList(
            self.make_encoder(before, after, normed=0 < level < levels - 1)
            for level, (before, after) in enumerate(zip([in_channels, *channels], channels, strict=False))
        )
        # All but the coarsest decoder read the coarser decoder's features beside the encoder's.
        joined = [2 * width for width in channels[:-1]] + channels[-1:]
        self.decoders = nn.ModuleList(
            self.make_decoder(before, after) for before, after in zip(joined[1:], channels[:-1], strict=True)
        )
        self.head = nn.ConvTranspose3d(joined[0], out_channels, kernel_size=4, stride=2, padding=1)
        if residual:
            for parameter in self.head.parameters():
                nn.init.zeros_(parameter)

    def make_row(self, first: nn.Module, channels: int, *, normed: bool, slope: float) -> nn.Module:
        """A convolution that changes the resolution and `convs` that do not, each with norm and activation."""
        layers: list[nn.Module] = []
        for n in range(1 + self.convs):
            layers.append(Conv3(channels, channels) if n else first)
            layers.append(norm_layer(self.norm, channels) if normed else nn.Identity())
            layers.append(nn.LeakyReLU(slope, inplace=True))
        return nn.Sequential(*layers)

    def make_encoder(self, in_channels: int, out_channels: int, *, normed: bool) -> nn.Module:
        """What turns a finer level's features into those of the next level."""
        halve = nn.Conv3d(in_channels, out_channels, kernel_size=4, stride=2, padding=1)
        return self.make_row(halve, out_channels, normed=normed, slope=LEAK)

    def make_decoder(self, in_channels: int, out_channels: int) -> nn.Module:
        """What turns a coarser level's features into those that join the encoder's."""
        double = nn.ConvTranspose3d(in_channels, out_channels, kernel_size=4, stride=2, padding=1)
        return self.make_row(double, out_channels, normed=True, slope=0.0)

    def memory_blocks(self) -> Iterator[nn.Module]:
        """What `train.memory: low` computes again: the rows of each level."""
        yield from self.encoders
        yield from self.decoders

    def forward(self, source: Tensor) -> Tensor:
        """Translate `source`.

        Raises:
            ValueError: a side does not divide by `multiple`.
        """
        check_sides(self, source.shape[2:], self.multiple)
        encoded = [self.encoders[0](source)]
        for encoder in self.encoders[1:]:
            encoded.append(encoder(encoded[-1]))
        features = encoded[-1]
        for decoder, skip in zip(reversed(self.decoders), reversed(encoded[:-1]), strict=True):
            features = torch.cat((decoder(features), skip), dim=1)
        written: Tensor = self.head(features)
        return source + written if self.residual else written
