"""The patch discriminator of pix2pix in 3D: each logit judges one small cube of the image."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from medtrans.builtin.generators.blocks import LEAK, Count, Norm, norm_layer
from medtrans.types import DiscriminatorOutput, Pyramid

__all__ = ["PatchGAN"]


class PatchGAN(nn.Module):
    """A row of 4^3 convolutions whose every logit sees one cube (Isola et al., "pix2pix", CVPR 2017, in 3D).

    `layers` convolutions of stride 2 and one of stride 1, each with norm (but the first) and leaky ReLU, then one that
    writes the logits. The cube has 16 voxels a side with one layer of stride 2, 34 with two and 70, as in pix2pix,
    with three. Features double at each convolution, up to eight times `width`.

    Differs from pix2pix: convolutions are 3D, the norm is over each image rather than over the batch, and weights start
    as torch draws them.

    Args:
        source_channels: source channels; used when `conditional`. 0 where a method judges candidates alone.
        target_channels: target channels.
        width: features of the first convolution.
        layers: convolutions of stride 2.
        norm: between a convolution and its activation.
        conditional: show the source beside the candidate, as pix2pix does.

    Shapes:
        level 0 of candidate and source `(b, c, i, j, k)`, other levels are not looked at; one logit map
        `(b, 1, i', j', k')` with sides of about 1/2^layers. Its `features` are every activation, finest first. Sides
        have at least `3 * 2^layers` voxels.
    """

    def __init__(
        self,
        source_channels: int,
        target_channels: int,
        *,
        width: Count = 64,
        layers: Count = 3,
        norm: Norm = "instance",
        conditional: bool = True,
    ) -> None:
        super().__init__()
        self.norm, self.conditional = norm, conditional
        self.least_side = 3 * 2**layers
        seen = target_channels + (source_channels if conditional else 0)
        channels = [width * min(2**layer, 8) for layer in range(layers + 1)]
        self.blocks = nn.ModuleList(
            self.make_block(before, after, stride=1 if layer == layers else 2, normed=layer > 0)
            for layer, (before, after) in enumerate(zip([seen, *channels], channels, strict=False))
        )
        self.head = nn.Conv3d(channels[-1], 1, kernel_size=4, padding=1)

    def make_norm(self, channels: int) -> nn.Module:
        """What stands between a convolution and its activation."""
        return norm_layer(self.norm, channels)

    def make_block(self, in_channels: int, out_channels: int, *, stride: int, normed: bool) -> nn.Module:
        """A convolution with its norm and activation."""
        return nn.Sequential(
            nn.Conv3d(in_channels, out_channels, kernel_size=4, stride=stride, padding=1),
            self.make_norm(out_channels) if normed else nn.Identity(),
            nn.LeakyReLU(LEAK),
        )

    def memory_blocks(self) -> Iterator[nn.Module]:
        """What `train.memory: low` computes again: each convolution with its norm."""
        yield from self.blocks

    def forward(self, candidate: Pyramid, source: Pyramid) -> DiscriminatorOutput:
        """Judge `candidate`; `source` is not touched unless the discriminator is conditional.

        Raises:
            ValueError: a side is too short for so many layers.
        """
        seen: Tensor = torch.cat((candidate[0], source[0]), dim=1) if self.conditional else candidate[0]
        sides = tuple(seen.shape[2:])
        if min(sides) < self.least_side:
            raise ValueError(
                f"{type(self).__name__}: {len(self.blocks) - 1} layers of stride 2 need sides of at least "
                f"{self.least_side} voxels, found {sides}; set fewer layers or a larger patch"
            )
        features: list[Tensor] = []
        for block in self.blocks:
            features.append(block(features[-1] if features else seen))
        return DiscriminatorOutput((self.head(features[-1]),), (tuple(features),))
