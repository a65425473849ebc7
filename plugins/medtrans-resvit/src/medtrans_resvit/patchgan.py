"""The discriminators on slices that ResViT is trained against: of patches, and of single voxels."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import nn

from medtrans.types import DiscriminatorOutput, Pyramid
from medtrans_resvit.slices import SLICED_AXIS, Plane, to_slices, to_volume

__all__ = ["PatchGAN2D", "PixelGAN2D"]

LEAK = 0.2
Count = Annotated[int, Field(ge=1)]


class _SliceDiscriminator(nn.Module):
    """Convolutions over slices, which are folded into the batch; subclasses give `blocks` and `head`."""

    blocks: nn.ModuleList
    head: nn.Conv2d

    def __init__(self, plane: Plane) -> None:
        super().__init__()
        self.axis = SLICED_AXIS[plane]

    def forward(self, candidate: Pyramid, source: Pyramid) -> DiscriminatorOutput:
        """Judge level 0 of `candidate` beside level 0 of `source`."""
        image = torch.cat((source[0], candidate[0]), dim=1) * 2 - 1
        volumes = len(image)
        features = [to_slices(image, self.axis)]
        for block in self.blocks:
            features.append(block(features[-1]))
        logits = self.head(features[-1])
        return DiscriminatorOutput(
            (to_volume(logits, volumes, self.axis),),
            (tuple(to_volume(feature, volumes, self.axis) for feature in features[1:]),),
        )


class PatchGAN2D(_SliceDiscriminator):
    """The conditional 70 x 70 PatchGAN of pix2pix (Isola et al. 2017) as ResViT's authors use it, on slices.

    Source and candidate stand beside each other as channels, in [-1, 1] inside. Each convolution has twice the channels
    of the one before, eight times `ndf` at most; all but the last two halve the resolution. The slices of a volume are
    folded into the batch.

    Args:
        source_channels: source channels.
        target_channels: target channels.
        ndf: channels of the first convolution.
        layers: convolutions that halve the resolution.
        norm: `batch`, as in the authors' commands; or `instance`, without weights of its own.
        plane: of the slices, as of the generator.

    Shapes:
        candidate and source `(b, c, i, j, k)`, whose planes have at least 24 x 24 voxels with three layers; one logit
        map with the plane's sides divided by 8 and reduced by 2: 30 x 30 for 256 x 256.
    """

    def __init__(
        self,
        source_channels: int,
        target_channels: int,
        *,
        ndf: Count = 64,
        layers: Count = 3,
        norm: Literal["batch", "instance"] = "batch",
        plane: Plane = "axial",
    ) -> None:
        super().__init__(plane)
        channels = [ndf * min(2**layer, 8) for layer in range(layers + 1)]
        self.blocks = nn.ModuleList([_block(source_channels + target_channels, ndf, 2, None)])
        for layer, (before, after) in enumerate(pairwise(channels), start=1):
            self.blocks.append(_block(before, after, 2 if layer < layers else 1, norm))
        self.head = nn.Conv2d(channels[-1], 1, kernel_size=4, padding=1)
        self.apply(_initialise)


class PixelGAN2D(_SliceDiscriminator):
    """The 1 x 1 discriminator of pix2pix (Isola et al. 2017), which the authors' code offers as `pixel`.

    It judges each voxel by its own intensities in source and candidate: it sees colours, and no structure.

    Args:
        source_channels: source channels.
        target_channels: target channels.
        ndf: channels of the first convolution; the second has twice as many.
        norm: `batch`; or `instance`, without weights of its own.
        plane: of the slices, as of the generator.

    Shapes:
        candidate and source `(b, c, i, j, k)`; one logit map of the same sides.
    """

    def __init__(
        self,
        source_channels: int,
        target_channels: int,
        *,
        ndf: Count = 64,
        norm: Literal["batch", "instance"] = "batch",
        plane: Plane = "axial",
    ) -> None:
        super().__init__(plane)
        self.blocks = nn.ModuleList(
            [_block(source_channels + target_channels, ndf, 1, None, side=1), _block(ndf, 2 * ndf, 1, norm, side=1)]
        )
        self.head = nn.Conv2d(2 * ndf, 1, kernel_size=1, bias=norm != "batch")
        self.apply(_initialise)


def _block(before: int, after: int, stride: int, norm: str | None, *, side: int = 4) -> nn.Sequential:
    conv = nn.Conv2d(before, after, kernel_size=side, stride=stride, padding=min(1, side - 1), bias=norm != "batch")
    layers: list[nn.Module] = [conv]
    if norm is not None:
        layers.append(nn.BatchNorm2d(after) if norm == "batch" else nn.InstanceNorm2d(after))
    return nn.Sequential(*layers, nn.LeakyReLU(LEAK, inplace=True))


def _initialise(module: nn.Module) -> None:
    """As pix2pix does; biases of convolutions keep torch's first values."""
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, std=0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, mean=1.0, std=0.02)
        nn.init.zeros_(module.bias)
