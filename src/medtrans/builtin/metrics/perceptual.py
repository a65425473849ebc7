"""Perceptual distances: slices of three planes compared by the features of a frozen network."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from medtrans import ConfigError, DataError, Surroundings, read_weights
from medtrans.builtin.losses.vgg import IMAGENET_MEAN, IMAGENET_STD, VGG16, VGG19, Tap, fill, load_weights, sha256_of
from medtrans.builtin.metrics import AXES, DetailedVolumeMetric

__all__ = ["LPIPS", "PerceptualDistance", "SliceDistance"]

_CHUNK = 16  # slices that pass through the network at once, whatever the volume: a bound on memory


class SliceDistance(DetailedVolumeMetric):
    """Base of distances between images: the mean over the slices of each of three planes, then over planes.

    Inside a mask only: outside, the prediction is replaced by the target, and slices that the mask does not meet are
    left out. The columns `<key>_i`, `<key>_j` and `<key>_k` hold the planes whose slices are counted along that axis.

    Attributes:
        smallest_side: of an image that the network can take.
    """

    unit = ""
    higher_is_better = False
    smallest_side: int

    @abstractmethod
    def scaled(self, volume: np.ndarray) -> np.ndarray:
        """The volume in the intensities that the network expects."""

    @abstractmethod
    def distance(self, prediction: Tensor, target: Tensor) -> Tensor:
        """From two batches of gray images `(n, 3, h, w)` to `(n,)`."""

    def columns(
        self, prediction: np.ndarray, target: np.ndarray, mask: np.ndarray | None, surroundings: Surroundings
    ) -> Mapping[str, float]:
        prediction, target = self.scaled(prediction), self.scaled(target)
        if min(target.shape) < self.smallest_side:
            raise DataError(
                f"The network needs slices of at least {self.smallest_side} voxels a side but the volume has "
                f"{target.shape}: choose earlier layers, or leave the metric out."
            )
        if mask is not None:
            prediction = np.where(mask, prediction, target)
        planes = {}
        for axis, plane in enumerate(AXES):
            numbers = np.arange(target.shape[axis])
            if mask is not None:
                numbers = np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis})))
            with torch.no_grad():
                distances = [
                    self.distance(_images(prediction, axis, some), _images(target, axis, some))
                    for some in np.split(numbers, range(_CHUNK, len(numbers), _CHUNK))
                ]
            planes[plane] = float(torch.cat(distances).double().mean())
        return {"": sum(planes.values()) / len(planes), **planes}


def _images(volume: np.ndarray, axis: int, numbers: np.ndarray) -> Tensor:
    slices = np.ascontiguousarray(np.moveaxis(volume, axis, 0)[numbers], dtype=np.float32)
    return torch.from_numpy(slices)[:, None].expand(-1, 3, -1, -1)


class PerceptualDistance(SliceDistance):
    """Mean absolute difference between the VGG-19 features of predicted and target slices, mean over three planes.

    Intensities are brought to [0, 1] by the range that scores refer to, replicated to three channels and normalised as
    ImageNet's. Outside a mask the prediction is replaced by the target, and slices that the mask does not meet are left
    out. The columns `<key>_i`, `<key>_j` and `<key>_k` hold the planes by the axis that their slices are counted along.
    Another network takes a subclass with its own `features`.

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
        self.parts = {plane: f"{how}, slices along {plane} from {ends} to [0, 1]" for plane in AXES}

    @cached_property
    def network(self) -> str:
        """What the features are of."""
        if self.weights in ("imagenet", "random"):
            return f"VGG-19 ({self.weights} weights)"
        return f"VGG-19 (weights of SHA-256 {sha256_of(Path(self.weights).expanduser())[:8]})"

    def features(self, images: Tensor) -> tuple[Tensor, ...]:
        """Feature maps `(n, c, h, w)` of gray images `(n, 3, h, w)` in [0, 1]."""
        mean, std = (torch.tensor(three).view(1, 3, 1, 1) for three in (IMAGENET_MEAN, IMAGENET_STD))
        found: tuple[Tensor, ...] = self.trunk((images - mean) / std)
        return found

    def scaled(self, volume: np.ndarray) -> np.ndarray:
        return (volume - self.data_low) / self.data_range

    def distance(self, prediction: Tensor, target: Tensor) -> Tensor:
        pairs = zip(self.features(prediction), self.features(target), strict=True)
        return torch.stack([(one - other).abs().flatten(1).mean(dim=1) for one, other in pairs]).mean(dim=0)


TAPS = ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3")
WIDTHS = (64, 128, 256, 512, 512)
"""Channels of the taps."""

SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""What images in [-1, 1] are normalised by: about ImageNet's mean and spread."""

_TINY = 1e-10


class LPIPS(SliceDistance):
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
        self.smallest_side = self.trunk.smallest_side
        fill(self.trunk, trunk.expanduser())
        self.linear = _linear_weights(linear.expanduser())
        files = " and ".join(sha256_of(path.expanduser())[:8] for path in (trunk, linear))
        ends = f"[{data_low:g}, {data_low + data_range:g}]"
        self.definition = (
            f"LPIPS 0.1, VGG-16, weights of SHA-256 {files}, slices from {ends} to [-1, 1], mean over three planes"
        )
        self.parts = {plane: f"{self.definition.rpartition(',')[0]}, slices along {plane}" for plane in AXES}

    def scaled(self, volume: np.ndarray) -> np.ndarray:
        return 2 * (volume - self.data_low) / self.data_range - 1

    def distance(self, prediction: Tensor, target: Tensor) -> Tensor:
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
