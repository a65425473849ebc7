"""Ea-GAN's generator: the U-Net of pix2pix in 3D."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from medtrans_eagan.initialisation import initialise

__all__ = ["LEAK", "Count", "EaGANGenerator", "Norm", "convolution", "norm_layer"]

LEAK = 0.2
Count = Annotated[int, Field(ge=1)]
Norm = Literal["batch", "instance"]

_WIDEST = 8  # channels of the deepest levels, in widths
_FIRST_WITH_DROPOUT = 4  # of the levels counted from 0; the innermost has none
_DROPOUT = 0.5


class EaGANGenerator(nn.Module):
    """The generator of Ea-GAN (Yu et al., IEEE TMI 38(7), 2019, doi 10.1109/TMI.2019.2895894).

    Each level halves the sides by a convolution of 4^3 with stride 2 and doubles them again by a transposed one; the
    way up is joined with the way down by concatenation. Levels carry 1, 2, 4, 8, 8, ... widths of channels. All
    convolutions have a bias, also before a norm. At the published size (7 levels, width 64, one channel in and out) it
    has 167,272,449 parameters.

    It works in [-1, 1] and ends in tanh; [0, 1] outside is converted at both ends, so that the background is 0 outside
    and -1 inside.

    Args:
        in_channels: source channels.
        out_channels: target channels.
        levels: times that the sides are halved; the published network has 7, for blocks of 128 voxels.
        width: channels of the first level (`ngf`).
        norm: `batch` as published, or `instance` with its own statistics kept for evaluation; the innermost level has
            batch norm in either case.
        dropout: drop half of the channels on the way up, at the levels between the fourth and the innermost.

    Attributes:
        multiple: the sides of a source must divide by it, `2^levels`.

    Shapes:
        source `(b, in_channels, i, j, k)`; the output `(b, out_channels, i, j, k)` in (0, 1).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        levels: Literal[5, 6, 7] = 7,
        width: Count = 64,
        norm: Norm = "batch",
        dropout: bool = True,
    ) -> None:
        super().__init__()
        self.multiple = 2**levels
        channels = [width * min(2**level, _WIDEST) for level in range(levels)]
        innermost = levels - 1
        self.down = nn.ModuleList([convolution(in_channels, channels[0])])
        self.up = nn.ModuleList(
            [nn.Sequential(nn.ReLU(), transposed_convolution(2 * channels[0], out_channels), nn.Tanh())]
        )
        for level, (finer, coarser) in enumerate(pairwise(channels), start=1):
            last = level == innermost
            # The innermost level may be a single voxel, of which no norm can take a variance.
            normed_down = [] if last else [norm_layer(norm, coarser)]
            drops = [nn.Dropout(_DROPOUT)] if dropout and _FIRST_WITH_DROPOUT <= level < innermost else []
            self.down.append(nn.Sequential(nn.LeakyReLU(LEAK), convolution(finer, coarser), *normed_down))
            self.up.append(
                nn.Sequential(
                    nn.ReLU(),
                    transposed_convolution(coarser if last else 2 * coarser, finer),
                    norm_layer("batch" if last else norm, finer),
                    *drops,
                )
            )
        initialise(self)

    def forward(self, source: Tensor) -> Tensor:
        """Translate `source`.

        Raises:
            ValueError: a side does not divide by `multiple`.
        """
        sides = tuple(source.shape[2:])
        if any(side % self.multiple for side in sides):
            raise ValueError(
                f"{type(self).__name__}: each side of the source must divide by {self.multiple}, found {sides}; "
                "pad the source, choose another patch size or fewer levels"
            )
        features = [2 * source - 1]
        for down in self.down:
            features.append(down(features[-1]))
        coarse = features.pop()
        for up, skip in zip(reversed(self.up), reversed([None, *features[1:]]), strict=True):
            coarse = up(coarse)
            if skip is not None:
                coarse = torch.cat((coarse, skip), dim=1)
        return (coarse + 1) / 2


def convolution(in_channels: int, out_channels: int) -> nn.Conv3d:
    """A convolution that halves the sides."""
    return nn.Conv3d(in_channels, out_channels, kernel_size=4, stride=2, padding=1)


def transposed_convolution(in_channels: int, out_channels: int) -> nn.ConvTranspose3d:
    """A transposed convolution that doubles the sides."""
    return nn.ConvTranspose3d(in_channels, out_channels, kernel_size=4, stride=2, padding=1)


def norm_layer(norm: Norm, channels: int) -> nn.Module:
    """A norm with weights and with statistics of its own for evaluation."""
    if norm == "batch":
        return nn.BatchNorm3d(channels)
    return nn.InstanceNorm3d(channels, affine=True, track_running_stats=True)
