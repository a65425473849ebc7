"""Perceptual distances: slices of three planes compared by the features of a frozen network."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from medtrans import ConfigError, DataError, DetailedMetric, Surroundings, read_weights
from medtrans.builtin.losses.vgg import VGG16, VGG19, Tap, fill, load_weights
from medtrans.builtin.metrics import require_comparable

__all__ = ["LPIPS", "PLANES", "PerceptualDistance", "distance_by_plane"]

PLANES = ("i", "j", "k")
"""The axis that the slices of each plane are counted along."""

_CHUNK = 16


def distance_by_plane(
    distance: Callable[[Tensor, Tensor], Tensor],
    prediction: np.ndarray,
    target: np.ndarray,
    mask: np.ndarray | None,
    smallest_side: int,
) -> dict[str, float]:
    """The mean distance of the slices of each plane.

    Args:
        distance: from two batches of gray images `(n, 3, h, w)` to `(n,)`.
        prediction: `(i, j, k)`, in the intensities the network expects.
        target: likewise.
        mask: both volumes are equal outside it, and slices without a voxel of it are left out.
        smallest_side: of an image that the network can take.

    Raises:
        DataError: a side of the volume is shorter.
    """
    if min(target.shape) < smallest_side:
        raise DataError(
            f"The network needs slices of at least {smallest_side} voxels a side but the volume has {target.shape}: "
            "choose earlier layers, or leave the metric out."
        )
    if mask is not None:
        prediction = np.where(mask, prediction, target)
    found = {}
    for axis, plane in enumerate(PLANES):
        numbers = np.arange(target.shape[axis])
        if mask is not None:
            numbers = np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis})))
        distances = []
        with torch.no_grad():
            for first in range(0, len(numbers), _CHUNK):
                some = numbers[first : first + _CHUNK]
                distances.append(distance(_images(prediction, axis, some), _images(target, axis, some)))
        found[plane] = float(torch.cat(distances).double().mean())
    return found


def _images(volume: np.ndarray, axis: int, numbers: np.ndarray) -> Tensor:
    slices = np.ascontiguousarray(np.moveaxis(volume, axis, 0)[numbers], dtype=np.float32)
    return torch.from_numpy(slices)[:, None].expand(-1, 3, -1, -1)


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
