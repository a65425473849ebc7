"""A discriminator that judges overlapping patches, beside the source they were made from."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from medtrans import Component, hookimpl
from medtrans.types import DiscriminatorOutput, Pyramid

__all__ = ["PatchGan"]

PLUGIN_API = "1.0"


class PatchGan(nn.Module):
    """A PatchGAN (Isola et al. 2017, "Image-to-Image Translation with Conditional Adversarial Networks") in 3D.

    Args:
        source_channels: channels of the source.
        target_channels: channels of the target.
        width: channels of the first layer.
    """

    def __init__(self, source_channels: int, target_channels: int, *, width: Annotated[int, Field(ge=1)] = 16) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [
                nn.Conv3d(source_channels + target_channels, width, kernel_size=4, stride=2, padding=1),
                nn.Conv3d(width, 2 * width, kernel_size=4, stride=2, padding=1),
            ]
        )
        self.head = nn.Conv3d(2 * width, 1, kernel_size=3, padding=1)

    def forward(self, candidate: Pyramid, source: Pyramid) -> DiscriminatorOutput:
        """Logits of the patches of level 0, and the features that a feature-matching loss compares."""
        image = torch.cat((candidate[0], source[0]), dim=1)
        features: list[Tensor] = []
        for layer in self.layers:
            image = nn.functional.leaky_relu(layer(image), 0.2)
            features.append(image)
        return DiscriminatorOutput((self.head(image),), (tuple(features),))


@hookimpl
def medtrans_discriminators() -> list[Component]:
    """What this plugin offers; `trial` keeps `medtrans plugins test` quick."""
    return [Component("patch_gan", PatchGan, trial={"options": {"width": 4}})]
