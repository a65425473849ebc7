"""Owns the frozen VGG trunks whose features perceptual losses and distances compare."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal, Self, get_args

import torch
from torch import Tensor, nn

__all__ = ["VGG16", "VGG19", "Tap"]

Tap = Literal[
    "relu1_1", "relu1_2", "relu2_1", "relu2_2", "relu3_1", "relu3_2", "relu3_3", "relu3_4",
    "relu4_1", "relu4_2", "relu4_3", "relu4_4", "relu5_1", "relu5_2", "relu5_3", "relu5_4",
]  # fmt: skip
"""Names of the activations: stage, then convolution within the stage."""

WIDTHS = (64, 128, 256, 512, 512)
"""Channels of the convolutions of each stage; a max-pooling stands between stages."""


class VGG19(nn.Module):
    """The convolutional part of VGG-19 (Simonyan and Zisserman 2015), frozen, cut behind the last tap.

    Parameters have the names that torchvision's files give them (`features.N.weight`). They start from a fixed random
    state of their own: the global one is neither read nor changed.

    Args:
        taps: activations to return.

    Attributes:
        known: the activations there are, in the order of the layers.
        smallest_side: of an image, so that all poolings leave something.

    Shapes:
        images `(n, 3, h, w)`, normalised as ImageNet's; each tap `(n, channels, h / 2^stage, w / 2^stage)`.

    Raises:
        ValueError: no taps, unknown ones, or one twice.
    """

    known: ClassVar[tuple[str, ...]] = get_args(Tap)

    def __init__(self, taps: Sequence[str]) -> None:
        super().__init__()
        known = self.known
        if not taps or len(set(taps)) != len(taps) or not set(taps) <= set(known):
            raise ValueError(
                f"{type(self).__name__}: taps {tuple(taps)} must be different names out of {', '.join(known)}"
            )
        self.taps: dict[str, int] = {}
        layers: list[nn.Module] = []
        generator = torch.Generator().manual_seed(0)
        before, stage = 3, "1"
        for name in known[: max(map(known.index, taps)) + 1]:
            if name[4] != stage:
                stage = name[4]
                layers.append(nn.MaxPool2d(2))
            width = WIDTHS[int(stage) - 1]
            layers += [random_conv(before, width, generator), nn.ReLU(inplace=True)]
            self.taps[name] = len(layers) - 1
            before = width
        self.taps = {name: self.taps[name] for name in taps}
        self.features = nn.Sequential(*layers)
        self.smallest_side = 2 ** (int(stage) - 1)
        self.requires_grad_(requires_grad=False)
        self.eval()

    def train(self, mode: bool = True) -> Self:
        # Frozen: it stays in eval mode whatever its owner does.
        return super().train(mode=False)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        found: dict[int, Tensor] = {}
        for index, layer in enumerate(self.features):
            images = layer(images)
            if index in self.taps.values():
                found[index] = images
        return tuple(found[index] for index in self.taps.values())


class VGG16(VGG19):
    """The same of VGG-16, which has three convolutions in each of the last three stages instead of four."""

    known: ClassVar[tuple[str, ...]] = tuple(name for name in VGG19.known if name[4] < "3" or not name.endswith("_4"))


def random_conv(in_channels: int, out_channels: int, generator: torch.Generator) -> nn.Conv2d:
    """A 3^2 convolution whose weights keep the size of what passes through many of them with ReLU (He et al. 2015)."""
    # Made without storage first: torch's own initialisation would draw from the global random state.
    conv = nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, device="meta").to_empty(device="cpu")
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu", generator=generator)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv
