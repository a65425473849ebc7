"""What networks are built of: convolutions, dense residual blocks, attention, norms, space-to-depth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

__all__ = [
    "CBAM",
    "LEAK",
    "RRDB",
    "ChannelAttention",
    "Conv3",
    "Count",
    "Norm",
    "ResidualDenseBlock",
    "SpatialAttention",
    "check_sides",
    "conv_in_halves",
    "depth_to_space",
    "norm_layer",
    "space_to_depth",
]

LEAK = 0.2
"""Slope of every leaky ReLU below zero (Ha et al., released configuration; pix2pix)."""

Count = Annotated[int, Field(ge=1)]
Norm = Literal["instance", "batch", "none"]


def norm_layer(norm: Norm, channels: int) -> nn.Module:
    """What stands between a convolution and its activation."""
    match norm:
        case "instance":
            return nn.InstanceNorm3d(channels, affine=True)
        case "batch":
            return nn.BatchNorm3d(channels)
    return nn.Identity()


def check_sides(network: nn.Module, sides: Sequence[int], multiple: int) -> None:
    """Check that each side of a source divides by `multiple`.

    Raises:
        ValueError: one does not.
    """
    if any(side % multiple for side in sides):
        raise ValueError(
            f"{type(network).__name__}: each side of the source must divide by {multiple}, found {tuple(sides)}; "
            "pad the source or choose another patch size"
        )


def space_to_depth(image: Tensor, factor: int) -> Tensor:
    """`(b, c, i, j, k)` to `(b, c * factor^3, i / factor, j / factor, k / factor)`, each voxel kept once."""
    b, c, i, j, k = image.shape
    blocks = image.reshape(b, c, i // factor, factor, j // factor, factor, k // factor, factor)
    return blocks.permute(0, 1, 3, 5, 7, 2, 4, 6).reshape(b, c * factor**3, i // factor, j // factor, k // factor)


def depth_to_space(features: Tensor, factor: int) -> Tensor:
    """The inverse of `space_to_depth`."""
    b, c, i, j, k = features.shape
    blocks = features.reshape(b, c // factor**3, factor, factor, factor, i, j, k)
    return blocks.permute(0, 1, 5, 2, 6, 3, 7, 4).reshape(b, c // factor**3, i * factor, j * factor, k * factor)


SMALL = 20480
"""Channels x i x j of a single image up to which torch computes a convolution in float32 without oneDNN."""


class Conv3(nn.Conv3d):
    """A 3^3 convolution that keeps the sides.

    On a CPU torch gives convolutions of one small image to a plain loop, three times slower than what it uses for a
    batch. Such an image is therefore passed as a batch of its two halves. The value is the same.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size=3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        if features.device.type == "cpu" and features.dtype == torch.float32 and _is_slow(features):
            return conv_in_halves(features, self.weight, self.bias)
        return super().forward(features)


def conv_in_halves(features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The 3^3 convolution of one image, as that of a batch of its halves along i, each with a plane of the other.

    Shapes:
        features `(1, c, i, j, k)`, i even, weight `(d, c, 3, 3, 3)`; to `(1, d, i, j, k)`.
    """
    half = features.shape[2] // 2
    padded = functional.pad(features, (0, 0, 0, 0, 1, 1))
    halves = torch.cat((padded[:, :, : half + 2], padded[:, :, half:]))
    both = functional.conv3d(halves, weight, bias, padding=(0, 1, 1))
    return torch.cat((both[:1], both[1:]), dim=2)


def _is_slow(features: Tensor) -> bool:
    b, c, i, j, _ = features.shape
    # A single channel gains nothing from oneDNN.
    return b == 1 and c > 1 and c * i * j <= SMALL and i % 2 == 0


class ResidualDenseBlock(nn.Module):
    """Convolutions that each see the input and all earlier results; the last one fuses them.

    Every convolution, the fusing one too, is followed by a leaky ReLU. Weights start Kaiming-normal, ten times smaller
    where the block is a correction to its input, with zero biases.

    Args:
        channels: in and out.
        growth: channels each convolution but the last adds.
        layers: convolutions in all, the fusing one counted.
        scale: factor of the fused result before it is added to the input.
        skip: add the input; the paper's figure draws no such path, related code has it.

    Shapes:
        `(b, channels, i, j, k)` to the same.
    """

    def __init__(self, channels: int, growth: int, *, layers: int = 5, scale: float = 0.2, skip: bool = True) -> None:
        super().__init__()
        self.scale, self.skip = scale, skip
        outputs = [growth] * (layers - 1) + [channels]
        self.convs = nn.ModuleList(
            self.make_conv(channels + n * growth, out, 0.1 if skip else 1.0) for n, out in enumerate(outputs)
        )

    def make_conv(self, in_channels: int, out_channels: int, gain: float) -> nn.Module:
        """A 3^3 convolution whose first weights are `gain` times Kaiming's."""
        conv = Conv3(in_channels, out_channels)
        nn.init.kaiming_normal_(conv.weight, a=LEAK)
        with torch.no_grad():
            conv.weight.mul_(gain)
        if conv.bias is not None:
            nn.init.zeros_(conv.bias)
        return conv

    def forward(self, features: Tensor) -> Tensor:
        seen = [features]
        for conv in self.convs:
            seen.append(functional.leaky_relu(conv(torch.cat(seen, dim=1)), LEAK, inplace=True))
        return features + self.scale * seen[-1] if self.skip else seen[-1]


class RRDB(nn.Module):
    """`blocks` residual dense blocks in a row, with one more residual path, scaled alike, around them all."""

    def __init__(
        self, channels: int, growth: int, *, blocks: int = 3, layers: int = 5, scale: float = 0.2, skip: bool = True
    ) -> None:
        super().__init__()
        self.scale = scale
        self.blocks = nn.ModuleList(
            ResidualDenseBlock(channels, growth, layers=layers, scale=scale, skip=skip) for _ in range(blocks)
        )

    def body(self, features: Tensor) -> Tensor:
        """The blocks without the outer path."""
        for block in self.blocks:
            features = block(features)
        return features

    def forward(self, features: Tensor) -> Tensor:
        # One block alone has its own residual path; a second one around it would only scale it down.
        return self.body(features) if len(self.blocks) == 1 else features + self.scale * self.body(features)


class ChannelAttention(nn.Module):
    """A weight a channel from its mean and maximum over space, both through one small network (Woo et al. 2018).

    The network's hidden layer has `channels // reduction` channels, at least one.
    """

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.weigh = nn.Sequential(
            nn.Conv3d(channels, hidden, kernel_size=1, bias=False),
            nn.ReLU(inplace=True),
            nn.Conv3d(hidden, channels, kernel_size=1, bias=False),
        )

    def forward(self, features: Tensor) -> Tensor:
        mean = features.mean(dim=(2, 3, 4), keepdim=True)
        # Over one flat axis, which is much quicker than over three at once or by adaptive pooling.
        peak = features.flatten(2).max(dim=2).values[..., None, None, None]
        return features * torch.sigmoid(self.weigh(mean) + self.weigh(peak))


class SpatialAttention(nn.Module):
    """A weight a voxel from the mean and maximum over channels, by one 7^3 convolution (Woo et al. 2018)."""

    def __init__(self) -> None:
        super().__init__()
        self.weigh = nn.Conv3d(2, 1, kernel_size=7, padding=3, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        maps = torch.cat((features.mean(dim=1, keepdim=True), features.amax(dim=1, keepdim=True)), dim=1)
        # On a CPU this layout makes a convolution with so few channels several times faster.
        maps = maps.contiguous(memory_format=torch.channels_last_3d)
        return features * torch.sigmoid(self.weigh(maps))


class CBAM(nn.Sequential):
    """Channel attention, then spatial attention (Woo et al. 2018, in 3D)."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__(ChannelAttention(channels, reduction), SpatialAttention())
