"""Owns LPIPS, the learned perceptual distance, from weights that the user brings."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from medtrans import ConfigError, DetailedMetric, Surroundings, read_weights
from medtrans.builtin.losses.vgg import VGG16
from medtrans.builtin.losses.vgg_weights import fill
from medtrans.builtin.metrics import require_comparable
from medtrans.builtin.metrics.slices import PLANES, distance_by_plane

__all__ = ["LPIPS"]

TAPS = ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3")
WIDTHS = (64, 128, 256, 512, 512)
SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)
"""What images in [-1, 1] are normalised by: about ImageNet's mean and spread."""

_TINY = 1e-10


class LPIPS(DetailedMetric):
    """LPIPS with VGG-16 over all slices of three planes, mean over slices, then over planes; 0 for identical volumes.

    At each of five activations features are scaled to length 1 in each voxel; their squared difference is weighted by
    what was learnt for each channel, averaged over the slice and summed over activations. Intensities go from the range
    that scores refer to to [-1, 1] and to three equal channels. Inside a mask only: outside, the prediction is replaced
    by the target, and slices that the mask does not meet are left out.

    Source: Zhang et al., CVPR 2018, version 0.1 with the linear layer. Ha et al. (arXiv 2412.00575) report the spread
    over volumes *and* planes; the columns `<key>_i`, `<key>_j`, `<key>_k` hold the planes.

    Args:
        data_range: width of the range the target's intensities can take.
        data_low: its lower end.
        trunk: file with torchvision's VGG-16 weights (`features.N.weight`).
        linear: file with the learnt weights, `vgg.pth` of the authors' package (`lin0.model.1.weight` to `lin4...`).

    Raises:
        ConfigError: there is no such file.
        SetupError: a file is broken or of another network.
    """

    unit = ""
    higher_is_better = False

    def __init__(self, data_range: float, data_low: float = 0.0, *, trunk: Path, linear: Path) -> None:
        missing = [
            f"lpips: {name}: there is no file {path}"
            for name, path in (("trunk", trunk), ("linear", linear))
            if not path.expanduser().is_file()
        ]
        if missing:
            raise ConfigError(*missing)
        self.data_range, self.data_low = data_range, data_low
        self.trunk = VGG16(TAPS)
        fill(self.trunk, trunk.expanduser())
        self.linear = _linear_weights(linear.expanduser())
        files = " and ".join(_digest(path.expanduser()) for path in (trunk, linear))
        ends = f"[{data_low:g}, {data_low + data_range:g}]"
        self.definition = (
            f"LPIPS 0.1, VGG-16, weights of SHA-256 {files}, slices from {ends} to [-1, 1], mean over three planes"
        )
        self.parts = {plane: f"{self.definition.rpartition(',')[0]}, slices along {plane}" for plane in PLANES}

    def scores(
        self,
        prediction: np.ndarray,
        target: np.ndarray,
        mask: np.ndarray | None,
        spacing_mm: Sequence[float],
        surroundings: Surroundings,
    ) -> Mapping[str, float]:
        """Score `prediction` against `target`, both `(i, j, k)` in the unit of `data_range`, inside `mask`.

        Raises:
            DataError: the shapes differ, the mask holds no voxel, or a side is too short for the network.
        """
        require_comparable(prediction, target, mask)
        here, there = (2 * (volume - self.data_low) / self.data_range - 1 for volume in (prediction, target))
        planes = distance_by_plane(self._distance, here, there, mask, self.trunk.smallest_side)
        return {"": sum(planes.values()) / len(planes), **planes}

    def _distance(self, prediction: Tensor, target: Tensor) -> Tensor:
        total = prediction.new_zeros(len(prediction))
        pairs = zip(self._features(prediction), self._features(target), self.linear, strict=True)
        for one, other, weight in pairs:
            total += ((one - other) ** 2 * weight).sum(dim=1).mean(dim=(1, 2))
        return total

    def _features(self, images: Tensor) -> list[Tensor]:
        shift, scale = (torch.tensor(three).view(1, 3, 1, 1) for three in (SHIFT, SCALE))
        found: tuple[Tensor, ...] = self.trunk((images - shift) / scale)
        return [one / (one.pow(2).sum(dim=1, keepdim=True).sqrt() + _TINY) for one in found]


def _linear_weights(file: Path) -> list[Tensor]:
    layers = nn.Module()
    with torch.device("meta"):
        for number, width in enumerate(WIDTHS):
            one_to_one = nn.Sequential(nn.Dropout(), nn.Conv2d(width, 1, 1, bias=False))
            layers.add_module(f"lin{number}", nn.ModuleDict({"model": one_to_one}))
    return [weight.float() for weight in read_weights(file, layers, "LPIPS 0.1's linear layers").values()]


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:8]
