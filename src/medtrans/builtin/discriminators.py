"""Discriminators: the paper's multi-resolution U-Net and the patch discriminator of pix2pix, in 3D."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm as with_spectral_norm

from medtrans.builtin.blocks import LEAK, Conv3, Count, Norm, norm_layer
from medtrans.types import DiscriminatorOutput, Pyramid, pyramid

__all__ = ["MultiResUNet", "PatchGAN"]


class MultiResUNet(nn.Module):
    """The voxel-wise discriminator of Ha et al. (arXiv 2412.00575): one logit map for each resolution.

    The generator's wiring without its dense blocks and attention: each level has its own entry convolution for the
    candidate at that level, so that the generator's image of each level is judged as it is; encoder and decoder join
    by concatenation, nearest in both directions. Level l carries `width * 2^l` channels. The released configuration
    gives these outlines; the released code lacks this network, so blocks of `convs` convolutions with spectral norm
    on all but the last layer are our reading, by analogy with the generator's decoder.

    Args:
        source_channels: source channels; used when `conditional`.
        target_channels: target channels.
        width: channels of level 0, and of every level's entry convolution.
        convs: convolutions of an encoder or decoder block.
        levels: resolutions judged.
        conditional: show the source beside the candidate; the paper's discriminator sees the candidate only.
        spectral_norm: on all convolutions but those that write the logits.

    Shapes:
        level l of candidate and source `(b, c, ceil(i / 2^l), ceil(j / 2^l), ceil(k / 2^l))`; the logits of level l
        have one channel and the same sides, which may be of any length; `features` are the decoder's, one a level.
    """

    channels_last_on_cpu: ClassVar[bool] = True

    def __init__(
        self,
        source_channels: int,
        target_channels: int,
        *,
        width: Count = 8,
        convs: Count = 3,
        levels: Count = 4,
        conditional: bool = False,
        spectral_norm: bool = True,
    ) -> None:
        super().__init__()
        self.levels, self.conditional, self.spectral_norm = levels, conditional, spectral_norm
        seen = target_channels + (source_channels if conditional else 0)
        channels = [width * 2**level for level in range(levels)]
        joined = [width] + [width + finer for finer in channels[:-1]]
        self.entries = nn.ModuleList(self.make_block(seen, width, 1) for _ in channels)
        self.encoders = nn.ModuleList(
            self.make_block(before, after, convs) for before, after in zip(joined, channels, strict=True)
        )
        self.decoders = nn.ModuleList(
            self.make_block(coarse + fine, fine, convs) for fine, coarse in pairwise(channels)
        )
        self.heads = nn.ModuleList(Conv3(out, 1) for out in channels)

    def make_block(self, in_channels: int, out_channels: int, convs: int) -> nn.Module:
        """A row of 3^3 convolutions, each with leaky ReLU."""
        layers: list[nn.Module] = []
        for n in range(convs):
            conv: nn.Module = Conv3(out_channels if n else in_channels, out_channels)
            layers += [with_spectral_norm(conv) if self.spectral_norm else conv, nn.LeakyReLU(LEAK, inplace=True)]
        return nn.Sequential(*layers)

    def forward(self, candidate: Pyramid, source: Pyramid) -> DiscriminatorOutput:
        """Judge `candidate`.

        Levels that a pyramid lacks are made from its level 0; levels beyond `levels` are ignored. `source` is not
        touched unless the discriminator is conditional.
        """
        seen = self.complete(candidate)
        if self.conditional:
            seen = tuple(torch.cat(both, dim=1) for both in zip(seen, self.complete(source), strict=True))
        features = self.decode(self.encode(seen))
        logits = tuple(head(feature) for head, feature in zip(self.heads, features, strict=True))
        return DiscriminatorOutput(logits, tuple((feature,) for feature in features))

    def memory_blocks(self) -> Iterator[nn.Module]:
        """What `train.memory: low` computes again: encoders and decoders of each level."""
        yield from self.encoders
        yield from self.decoders

    def complete(self, image: Pyramid) -> Pyramid:
        """As many levels as are judged, those that `image` lacks made from its level 0."""
        there = tuple(image[: self.levels])
        return there if len(there) == self.levels else there + pyramid(image[0], self.levels)[len(there) :]

    def encode(self, seen: Pyramid) -> list[Tensor]:
        """Encoder features, finest first."""
        features: list[Tensor] = []
        for level, (entry, encoder) in enumerate(zip(self.entries, self.encoders, strict=True)):
            joined = [entry(seen[level])] + ([pyramid(features[-1], 2)[1]] if level else [])
            features.append(encoder(torch.cat(joined, dim=1)))
        return features

    def decode(self, encoded: list[Tensor]) -> list[Tensor]:
        """Decoder features, finest first; the coarsest are the encoder's own."""
        features = [encoded[-1]]
        for decoder, skip in zip(reversed(self.decoders), reversed(encoded[:-1]), strict=True):
            # To the size of the finer level rather than by 2, so that odd sides meet.
            coarse = functional.interpolate(features[0], size=skip.shape[2:], mode="nearest")
            features.insert(0, decoder(torch.cat((coarse, skip), dim=1)))
        return features


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

    def make_block(self, in_channels: int, out_channels: int, *, stride: int, normed: bool) -> nn.Module:
        """A convolution with its norm and activation."""
        return nn.Sequential(
            nn.Conv3d(in_channels, out_channels, kernel_size=4, stride=stride, padding=1),
            norm_layer(self.norm, out_channels) if normed else nn.Identity(),
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
