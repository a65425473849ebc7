"""What the built-in metrics share: the check that two volumes can be compared, and which voxels are."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np

from medtrans import ConfigError, DataError, DetailedMetric, Metric, Surroundings

__all__ = [
    "AXES",
    "DetailedVolumeMetric",
    "VolumeMetric",
    "VoxelMetric",
    "compared_voxels",
    "require_comparable",
    "width_of",
]


AXES = ("i", "j", "k")
"""The columns of metrics that score each axis for itself."""


class VoxelMetric(Metric):
    """Base of metrics of the voxels inside the mask, wherever they lie.

    As the other bases, it raises a `DataError` where shapes differ or the mask holds no voxel.
    """

    @abstractmethod
    def score(self, prediction: np.ndarray, target: np.ndarray) -> float:
        """The score of the voxels inside the mask, both flat and in float64."""

    def __call__(
        self, prediction: np.ndarray, target: np.ndarray, mask: np.ndarray | None, spacing_mm: Sequence[float]
    ) -> float:
        return self.score(*compared_voxels(prediction, target, mask))


class VolumeMetric(Metric):
    """Base of metrics that look at where voxels lie."""

    @abstractmethod
    def score(
        self, prediction: np.ndarray, target: np.ndarray, mask: np.ndarray | None, spacing_mm: Sequence[float]
    ) -> float:
        """The score of volumes of one shape, inside a mask of bool that holds a voxel."""

    def __call__(
        self, prediction: np.ndarray, target: np.ndarray, mask: np.ndarray | None, spacing_mm: Sequence[float]
    ) -> float:
        require_comparable(prediction, target, mask)
        return self.score(prediction, target, None if mask is None else mask.astype(bool, copy=False), spacing_mm)


class DetailedVolumeMetric(DetailedMetric):
    """Base of metrics with several columns, or with a look at the surroundings."""

    @abstractmethod
    def columns(
        self, prediction: np.ndarray, target: np.ndarray, mask: np.ndarray | None, surroundings: Surroundings
    ) -> Mapping[str, float]:
        """The scores by column of volumes of one shape, inside a mask of bool that holds a voxel."""

    def scores(
        self,
        prediction: np.ndarray,
        target: np.ndarray,
        mask: np.ndarray | None,
        spacing_mm: Sequence[float],
        surroundings: Surroundings,
    ) -> Mapping[str, float]:
        require_comparable(prediction, target, mask)
        inside = None if mask is None else mask.astype(bool, copy=False)
        return self.columns(prediction, target, inside, surroundings)


def require_comparable(prediction: np.ndarray, target: np.ndarray, mask: np.ndarray | None) -> None:
    """Check that two volumes can be compared.

    Raises:
        DataError: the shapes differ, or the mask holds no voxel.
    """
    for name, volume in (("prediction", prediction), ("mask", mask)):
        if volume is not None and volume.shape != target.shape:
            raise DataError(
                f"The {name} has shape {volume.shape} but the target {target.shape}: bring both onto one grid."
            )
    if mask is not None and not mask.any():
        raise DataError("The mask is empty, so there is nothing to score: fix it, or leave the mask out.")


def compared_voxels(
    prediction: np.ndarray, target: np.ndarray, mask: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Both volumes inside the mask, each flat and in float64.

    Raises:
        DataError: the shapes differ, or the mask holds no voxel.
    """
    require_comparable(prediction, target, mask)
    inside = ... if mask is None else mask.astype(bool, copy=False)
    return prediction[inside].ravel().astype(np.float64), target[inside].ravel().astype(np.float64)


def width_of(limits: tuple[float, float]) -> float:
    """How wide a range of intensities is.

    Raises:
        ConfigError: it is not a lower and a higher number.
    """
    low, high = limits
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise ConfigError(f"range: expected [low, high] with low < high, found [{low:g}, {high:g}]")
    return float(high - low)
