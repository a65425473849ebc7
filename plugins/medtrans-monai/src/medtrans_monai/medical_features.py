"""The frozen 3D network of medical images whose features the 3D perceptual loss compares."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import torch
from monai.networks.nets.resnet import ResNetFeatures
from torch import Tensor, nn

from medtrans import ConfigError, read_weights

__all__ = ["MedicalFeatures"]


class MedicalFeatures(nn.Module):
    """MONAI's `ResNetFeatures` of 10 layers, frozen, with the names that MedicalNet's files give its parameters.

    It stays in eval mode whatever its owner does: its running means and variances are those of the scans it was trained
    on. MedicalNet's own layers 3 and 4 keep the size and are dilated instead; MONAI's halve it, with the same weights.

    Args:
        weights: path of MedicalNet's `resnet_10_23dataset.pth`, or of one without its 23 in the name; `random` for an
            untrained network, the same everywhere.

    Shapes:
        scans `(n, 1, i, j, k)`; five features: 64 channels at half the sides, 64 at a quarter, then twice the channels
        at half the sides, each time.

    Raises:
        ConfigError: there is no such file.
        SetupError: it cannot be read or is of another network.
    """

    def __init__(self, weights: str) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.network = ResNetFeatures("resnet10", pretrained=False, spatial_dims=3, in_channels=1)
        if weights != "random":
            file = Path(weights).expanduser()
            if not file.is_file():
                raise ConfigError(
                    f"perceptual_3d: weights {weights!r} is not 'random', and there is no such file; give the path of "
                    "MedicalNet's resnet_10_23dataset.pth"
                )
            self.network.load_state_dict(read_weights(file, self.network, "MedicalNet's ResNet-10"))
        self.requires_grad_(requires_grad=False)
        self.eval()

    def train(self, mode: bool = True) -> Self:
        return super().train(mode=False)

    def forward(self, scans: Tensor) -> list[Tensor]:
        found: list[Tensor] = self.network(scans)
        return found
