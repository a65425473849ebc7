"""The frozen video network whose features the video-perceptual loss compares."""

from __future__ import annotations

from typing import Self

from torch import Tensor, nn
from torch.nn import functional

__all__ = ["VideoTrunk"]

STAGES = (64, 128, 256, 512)
"""Channels of the four stages, of two blocks each."""


class VideoTrunk(nn.Module):
    """The convolutional part of R3D-18 (Tran et al. 2018, "A Closer Look at Spatiotemporal Convolutions"), frozen.

    Parameters have the names that torchvision's `r3d_18` gives them. It stays in eval mode whatever its owner does: its
    running means and variances are those of the videos it was trained on.

    Shapes:
        images `(n, 3, t, h, w)`; four stages: 64 channels at `(t, h / 2, w / 2)`, then twice the channels at half the
        sides, each time.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv3d(3, STAGES[0], kernel_size=(3, 7, 7), stride=(1, 2, 2), padding=(1, 3, 3), bias=False),
            nn.BatchNorm3d(STAGES[0]),
            nn.ReLU(inplace=True),
        )
        self.layer1 = _stage(STAGES[0], STAGES[0], stride=1)
        self.layer2 = _stage(STAGES[0], STAGES[1], stride=2)
        self.layer3 = _stage(STAGES[1], STAGES[2], stride=2)
        self.layer4 = _stage(STAGES[2], STAGES[3], stride=2)
        self.requires_grad_(requires_grad=False)
        self.eval()

    def train(self, mode: bool = True) -> Self:
        return super().train(mode=False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        first = self.layer1(self.stem(images))
        second = self.layer2(first)
        third = self.layer3(second)
        return first, second, third, self.layer4(third)


class _Block(nn.Module):
    """Two 3^3 convolutions around which the input is led, reduced where it has to be."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(_conv(before, after, stride), nn.BatchNorm3d(after), nn.ReLU(inplace=True))
        self.conv2 = nn.Sequential(_conv(after, after, 1), nn.BatchNorm3d(after))
        self.downsample = (
            None
            if stride == 1 and before == after
            else nn.Sequential(
                nn.Conv3d(before, after, kernel_size=1, stride=stride, bias=False), nn.BatchNorm3d(after)
            )
        )

    def forward(self, features: Tensor) -> Tensor:
        around = features if self.downsample is None else self.downsample(features)
        return functional.relu(self.conv2(self.conv1(features)) + around)


def _conv(before: int, after: int, stride: int) -> nn.Conv3d:
    return nn.Conv3d(before, after, kernel_size=3, stride=stride, padding=1, bias=False)


def _stage(before: int, after: int, stride: int) -> nn.Sequential:
    return nn.Sequential(_Block(before, after, stride), _Block(after, after, 1))
