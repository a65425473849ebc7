"""The building blocks that both networks share: normalisation, down and up steps, the residual block."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

__all__ = ["ResidualBlock", "SliceNorm", "down", "entry", "exit_", "up"]


class SliceNorm(nn.BatchNorm2d):
    """Batch normalisation that can normalise each slice by its own numbers when it translates.

    Attributes:
        per_slice: in eval mode, use the mean and variance of the slice instead of the running ones. It is what the
            original does, which translates one slice at a time without leaving training mode.
    """

    per_slice = False

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # the name that the base class has
        if self.training or not self.per_slice:
            return super().forward(input)
        return functional.instance_norm(input, weight=self.weight, bias=self.bias, eps=self.eps)


class ResidualBlock(nn.Module):
    """Two 3^2 convolutions with reflected borders, added to their input; nothing follows the sum.

    Args:
        channels: in and out.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, kernel_size=3, bias=False),
            SliceNorm(channels),
            nn.ReLU(inplace=True),
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, kernel_size=3, bias=False),
            SliceNorm(channels),
        )

    def forward(self, features: Tensor) -> Tensor:
        added: Tensor = self.body(features)
        return features + added


def entry(in_channels: int, out_channels: int) -> nn.Sequential:
    """A 7^2 convolution with reflected borders at full resolution."""
    return nn.Sequential(
        nn.ReflectionPad2d(3),
        nn.Conv2d(in_channels, out_channels, kernel_size=7, bias=False),
        SliceNorm(out_channels),
        nn.ReLU(inplace=True),
    )


def down(in_channels: int, out_channels: int) -> nn.Sequential:
    """A 3^2 convolution to half the resolution."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=2, padding=1, bias=False),
        SliceNorm(out_channels),
        nn.ReLU(inplace=True),
    )


def up(in_channels: int, out_channels: int) -> nn.Sequential:
    """A transposed 3^2 convolution to twice the resolution."""
    return nn.Sequential(
        nn.ConvTranspose2d(in_channels, out_channels, kernel_size=3, stride=2, padding=1, output_padding=1, bias=False),
        SliceNorm(out_channels),
        nn.ReLU(inplace=True),
    )


def exit_(in_channels: int, out_channels: int) -> nn.Sequential:
    """A 7^2 convolution with reflected borders that writes the image, in (-1, 1)."""
    return nn.Sequential(nn.ReflectionPad2d(3), nn.Conv2d(in_channels, out_channels, kernel_size=7), nn.Tanh())
