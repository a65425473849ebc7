"""The discriminator that PTNet3D is trained against: a PatchGAN at each of several scales."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from medtrans.types import DiscriminatorOutput, Pyramid

__all__ = ["MultiscalePatchGAN", "PatchGAN3D"]

LEAK = 0.2
MOST_CHANNELS = 512
Count = Annotated[int, Field(ge=1)]


class PatchGAN3D(nn.Module):
    """Convolutions of 4^3 with padding 2, all with bias; normalised between the first and the last.

    Args:
        in_channels: of source and candidate together.
        ndf: channels of the first convolution.
        layers: convolutions that halve the resolution.
    """

    def __init__(self, in_channels: int, ndf: int, layers: int) -> None:
        super().__init__()
        channels = [min(ndf * 2**layer, max(MOST_CHANNELS, ndf)) for layer in range(layers + 1)]
        self.blocks = nn.ModuleList([_block(in_channels, ndf, stride=2, norm=False)])
        for layer, (before, after) in enumerate(pairwise(channels), start=1):
            self.blocks.append(_block(before, after, stride=2 if layer < layers else 1, norm=True))
        self.head = nn.Conv3d(channels[-1], 1, kernel_size=4, padding=2)

    def forward(self, image: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The logits, and the features of each block."""
        features = []
        for block in self.blocks:
            image = block(image)
            features.append(image)
        return self.head(image), tuple(features)


class MultiscalePatchGAN(nn.Module):
    """The conditional discriminator of PTNet3D (Zhang et al. 2022), after pix2pixHD's (Wang et al. 2018), in 3D.

    Source and candidate stand beside each other as channels, in [-1, 1] inside. One network judges them as they are,
    the next ones after one and more averagings to half the resolution. Instance normalisation without weights.

    Args:
        source_channels: source channels.
        target_channels: target channels.
        ndf: channels of each network's first convolution.
        layers: convolutions of each network that halve the resolution.
        scales: networks.

    Shapes:
        level 0 of candidate and source `(b, c, i, j, k)`; one logit map a scale, finest first, of 19^3, 11^3 and 7^3
        for patches of 64^3; `features` are those of all but the last convolution.
    """

    def __init__(
        self, source_channels: int, target_channels: int, *, ndf: Count = 64, layers: Count = 2, scales: Count = 3
    ) -> None:
        super().__init__()
        self.networks = nn.ModuleList(PatchGAN3D(source_channels + target_channels, ndf, layers) for _ in range(scales))
        self.coarsen = nn.AvgPool3d(kernel_size=3, stride=2, padding=1, count_include_pad=False)
        self.apply(_initialise)

    def forward(self, candidate: Pyramid, source: Pyramid) -> DiscriminatorOutput:
        """Judge level 0 of `candidate` beside level 0 of `source`."""
        image = torch.cat((source[0], candidate[0]), dim=1) * 2 - 1
        judged = []
        for scale, network in enumerate(self.networks):
            image = self.coarsen(image) if scale else image
            judged.append(network(image))
        logits, features = zip(*judged, strict=True)
        return DiscriminatorOutput(tuple(logits), tuple(features))


def _block(before: int, after: int, *, stride: int, norm: bool) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv3d(before, after, kernel_size=4, stride=stride, padding=2)]
    if norm:
        layers.append(nn.InstanceNorm3d(after))
    return nn.Sequential(*layers, nn.LeakyReLU(LEAK, inplace=True))


def _initialise(module: nn.Module) -> None:
    """As pix2pixHD does; biases keep torch's first values."""
    if isinstance(module, nn.Conv3d):
        nn.init.normal_(module.weight, std=0.02)
