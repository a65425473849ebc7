"""A U-Net of two levels as a generator."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from medtrans import Component, hookimpl

__all__ = ["SmallUnet"]

PLUGIN_API = "1.0"


class SmallUnet(nn.Module):
    """A U-Net of two levels.

    Args:
        in_channels: source channels.
        out_channels: target channels.
        width: channels at full resolution.
    """

    multiple = 2  # sides must divide by it; medtrans pads volumes and crops the result

    def __init__(self, in_channels: int, out_channels: int, *, width: Annotated[int, Field(ge=1)] = 16) -> None:
        super().__init__()
        self.fine = _block(in_channels, width)
        self.coarse = _block(width, 2 * width)
        self.joined = _block(3 * width, width)
        self.head = nn.Conv3d(width, out_channels, kernel_size=1)

    def forward(self, source: Tensor) -> Tensor:
        """Translate `(b, in_channels, i, j, k)` to `(b, out_channels, i, j, k)`."""
        fine = self.fine(source)
        coarse = self.coarse(nn.functional.max_pool3d(fine, 2))
        coarse = nn.functional.interpolate(coarse, scale_factor=2.0)
        image: Tensor = self.head(self.joined(torch.cat((fine, coarse), dim=1)))
        return image


def _block(before: int, after: int) -> nn.Module:
    return nn.Sequential(nn.Conv3d(before, after, kernel_size=3, padding=1), nn.LeakyReLU(0.2))


@hookimpl
def medtrans_generators() -> list[Component]:
    """What this plugin offers; `trial` keeps `medtrans plugins test` quick."""
    return [Component("small_unet", SmallUnet, trial={"options": {"width": 4}})]
