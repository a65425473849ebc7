"""Owns the perceptual distance: slices of three planes compared by the features of a frozen network."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from medtrans import DetailedMetric, Surroundings
from medtrans.builtin.losses.vgg import VGG19, Tap
from medtrans.builtin.losses.vgg_weights import load_weights
from medtrans.builtin.metrics import require_comparable
from medtrans.builtin.metrics.slices import PLANES, distance_by_plane

__all__ = ["PerceptualDistance"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class PerceptualDistance(DetailedMetric):
    """Mean absolute difference between the VGG-19 features of predicted and target slices, mean over three planes.

    Intensities are brought to [0, 1] by the range that scores refer to, replicated to three channels and normalised as
    ImageNet's. Inside a mask only: outside, the prediction is replaced by the target, and slices that the mask does not
    meet are left out. The columns `<key>_i`, `<key>_j` and `<key>_k` hold the planes whose slices are counted along
    that axis. Another network takes a subclass with its own `features`.

    Source: the distance is the loss of Ha et al. (arXiv 2412.00575) on whole volumes.

    Args:
        data_range: width of the range the target's intensities can take.
        data_low: its lower end.
        weights: `imagenet`, `random` (not perceptual), or the path of a file with torchvision's VGG-19.
        taps: the activations that are compared.

    Raises:
        SetupError, ConfigError: the weights cannot be had.
        ValueError: there is no such tap.
    """

    unit = ""
    higher_is_better = False

    def __init__(
        self,
        data_range: float,
        data_low: float = 0.0,
        *,
        weights: str = "imagenet",
        taps: tuple[Tap, ...] = ("relu5_4",),
    ) -> None:
        self.data_range, self.data_low = data_range, data_low
        self.weights, self.taps = weights, taps
        self.trunk = VGG19(taps)
        load_weights(self.trunk, weights, owner="perceptual distance")
        self.smallest_side = self.trunk.smallest_side
        ends = f"[{data_low:g}, {data_low + data_range:g}]"
        how = f"mean |phi(prediction) - phi(target)| over slices, phi = {self.network} after {', '.join(taps)}"
        self.definition = f"{how}, slices from {ends} to [0, 1], mean over three planes"
        self.parts = {plane: f"{how}, slices along {plane} from {ends} to [0, 1]" for plane in PLANES}

    @cached_property
    def network(self) -> str:
        """What the features are of."""
        if self.weights in ("imagenet", "random"):
            return f"VGG-19 ({self.weights} weights)"
        with Path(self.weights).expanduser().open("rb") as stream:
            return f"VGG-19 (weights of SHA-256 {hashlib.file_digest(stream, 'sha256').hexdigest()[:8]})"

    def features(self, images: Tensor) -> tuple[Tensor, ...]:
        """Feature maps `(n, c, h, w)` of gray images `(n, 3, h, w)` in [0, 1]."""
        mean, std = (torch.tensor(three).view(1, 3, 1, 1) for three in (IMAGENET_MEAN, IMAGENET_STD))
        found: tuple[Tensor, ...] = self.trunk((images - mean) / std)
        return found

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
        here, there = ((volume - self.data_low) / self.data_range for volume in (prediction, target))
        planes = distance_by_plane(self._distance, here, there, mask, self.smallest_side)
        return {"": sum(planes.values()) / len(planes), **planes}

    def _distance(self, prediction: Tensor, target: Tensor) -> Tensor:
        pairs = zip(self.features(prediction), self.features(target), strict=True)
        return torch.stack([(one - other).abs().flatten(1).mean(dim=1) for one, other in pairs]).mean(dim=0)
