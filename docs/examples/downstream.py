"""Research code that builds on medtrans without any plugin: subclasses of its public classes, used from Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

import medtrans
from medtrans.types import LossInputs, batch_mean

__all__ = ["Gamma", "GatedUNet", "Huber", "Phantoms", "StopWatch", "ToTheBrightest", "WithoutBackground", "WorstVoxel"]


class GatedUNet(medtrans.MDAUNet):
    """`MDAUNet` with gates in its decoders and maxima on the way down."""

    def make_attention(self, level: int, channels: int) -> nn.Module:
        """A 1^3 convolution with a sigmoid in the place of CBAM."""
        return Gate(channels)

    def downsample(self, features: Tensor) -> Tensor:
        """The largest of each eight voxels."""
        return nn.functional.max_pool3d(features, 2)


class Gate(nn.Module):
    """Weighs each channel at each voxel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weigh = nn.Conv3d(channels, channels, kernel_size=1)

    def forward(self, features: Tensor) -> Tensor:
        """Features of the same shape."""
        return features * torch.sigmoid(self.weigh(features))


class WithoutBackground(medtrans.PairedMethod):
    """`PairedMethod` that trains on what lies inside the mask alone."""

    def generator_losses(self, inputs: LossInputs) -> dict[str, Tensor]:
        """The terms by loss, and one more inside the mask."""
        terms = super().generator_losses(inputs)
        difference = (inputs.prediction[0] - inputs.target[0]).abs()
        return {**terms, "inside": batch_mean(difference, inputs.mask)}


class Huber(medtrans.Loss):
    """Squared up to `width`, linear beyond.

    Args:
        width: difference at which the square becomes a line.
    """

    adversarial: ClassVar[bool] = False

    def __init__(self, *, width: float = 0.1) -> None:
        super().__init__()
        self.width = width

    def forward(self, inputs: LossInputs) -> Tensor:
        """The generator's term."""
        found = nn.functional.huber_loss(
            inputs.prediction[0], inputs.target[0].detach(), reduction="none", delta=self.width
        )
        return batch_mean(found)


class WorstVoxel(medtrans.Metric):
    """The largest error of a volume."""

    unit = "native"
    higher_is_better = False
    definition = "max(|prediction - target|)"

    def __call__(
        self, prediction: np.ndarray, target: np.ndarray, mask: np.ndarray | None, spacing_mm: Sequence[float]
    ) -> float:
        """Score `(i, j, k)` inside the mask."""
        error = np.abs(prediction - target)
        inside = error if mask is None else error[mask]
        if not inside.size:
            raise medtrans.DataError("the mask is empty, so there is nothing to score")
        return float(inside.max())


class Phantoms(medtrans.Dataset):
    """Two spheres of different brightness in two modalities."""

    def cases(self) -> Sequence[medtrans.Case]:
        """One case a radius."""
        return [self.case(radius) for radius in (4, 5, 6)]

    def case(self, radius: int) -> medtrans.Case:
        """A case whose images are drawn when they are asked for."""
        name = f"radius_{radius}"
        return medtrans.Case(
            name, name, {"t1": lambda: self.sphere(radius, 1.0), "t2": lambda: self.sphere(radius, 0.5)}
        )

    def sphere(self, radius: int, brightness: float) -> medtrans.Volume:
        """A sphere in a volume of 16 voxels a side, 1 mm each."""
        places = np.indices((16, 16, 16)) - 7.5
        inside = np.square(places).sum(axis=0) < radius**2
        return medtrans.Volume((brightness * inside).astype(np.float32), np.eye(4))


class Gamma(medtrans.Augmentation):
    """A random contrast of the source."""

    intensity: ClassVar[bool] = True

    def __call__(self, patches: Mapping[str, Tensor], rng: np.random.Generator) -> dict[str, Tensor]:
        """Change the patches `(c, i, j, k)`."""
        power = float(rng.uniform(0.8, 1.25))
        return {name: patch**power for name, patch in patches.items()}


class ToTheBrightest(medtrans.Preprocess):
    """From 0 to the brightest voxel."""

    fitted: ClassVar[bool] = True

    def fit(self, volume: np.ndarray, mask: np.ndarray | None) -> dict[str, float]:
        """The brightest voxel."""
        high = float(volume.max())
        if high <= 0:
            raise medtrans.DataError("no voxel is above 0, so there is nothing to scale; exclude the case")
        return {"high": high}

    def apply(self, volume: np.ndarray, numbers: Mapping[str, float]) -> np.ndarray:
        """The volume in [0, 1]."""
        return np.clip(volume / numbers["high"], 0, 1).astype(np.float32)

    def invert(self, volume: np.ndarray, numbers: Mapping[str, float]) -> np.ndarray:
        """The volume in native intensities."""
        native: np.ndarray = volume * np.float32(numbers["high"])
        return native


class StopWatch(medtrans.Callback):
    """Counts steps."""

    def __init__(self) -> None:
        self.steps = 0

    def on_start(self, run: medtrans.RunInfo) -> None:
        """Begin at the run's first step."""
        self.steps = run.first_step

    def on_step(self, step: int, values: Mapping[str, Tensor]) -> None:
        """Count."""
        self.steps += 1

    def on_validation(self, step: int, means: Mapping[str, float], cases: Sequence[medtrans.Scored]) -> None:
        """Nothing to count."""


if __name__ == "__main__":
    network = GatedUNet(1, 1, preset="tiny")
    with torch.no_grad():
        levels = network(torch.rand(1, 1, 16, 16, 16))
    print([tuple(level.shape) for level in levels])
    metric = medtrans.component("metric", "psnr").factory(data_range=1.0)
    print(metric.definition)
