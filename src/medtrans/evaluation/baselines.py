"""The three trivial baselines: what a translation scores without any network, so that scores can be judged.

Each is fitted to the training cases' foregrounds in scaled intensities: the voxels of the mask where a case has one,
else those where any source exceeds 0.1. The two that look at intensities answer the mean training background elsewhere.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import affine_transform

from medtrans.data.sampling import foreground
from medtrans.errors import DataError

if TYPE_CHECKING:
    from medtrans.data.preprocessing import Prepared

__all__ = ["Baseline", "SourceLUT", "SourceLinear", "TrainingMean", "fit_baselines", "foreground_of"]


_BINS = 64
_WHOLLY = 0.999  # a voxel with this much of its weight in voxels that have data


def fit_baselines(training: Iterable[Prepared]) -> dict[str, Baseline]:
    """The baselines "source_linear", "source_lut" and "training_mean", fitted in one pass with one case in memory.

    Args:
        training: the training cases, with targets.

    Raises:
        DataError: no training case has a foreground.
    """
    baselines: dict[str, Baseline] = {
        "source_linear": SourceLinear(),
        "source_lut": SourceLUT(),
        "training_mean": TrainingMean(),
    }
    cases = 0
    for prepared in training:
        foreground, valid = foreground_of(prepared), prepared.valid
        if (foreground if valid is None else foreground & valid).any():
            cases += 1
            for baseline in baselines.values():
                baseline.add(prepared, foreground)
    if not cases:
        raise DataError(
            "The trivial baselines have nothing to fit: no training case has a voxel inside its mask or, without one, "
            "a source above 0.1. Check the masks and the intensity scaling of the sources."
        )
    return baselines


def foreground_of(prepared: Prepared) -> np.ndarray:
    """Where a case's foreground is, boolean `(i, j, k)`; known without its target."""
    if prepared.mask is not None:
        return np.asarray(prepared.mask[0] != 0)
    return np.asarray(foreground(prepared.source).any(axis=0))


class Baseline(ABC):
    """A prediction that needs no training beyond sums over the training cases."""

    @abstractmethod
    def add(self, prepared: Prepared, foreground: np.ndarray) -> None:
        """Take in one training case with a target and a foreground that is not empty."""

    @abstractmethod
    def predict(self, prepared: Prepared) -> np.ndarray:
        """The target of a case, `(c, i, j, k)` float32 in [0, 1]; the case's own target is not looked at."""


class _OfIntensities(Baseline):
    """A target that depends on the source's intensities voxel by voxel; the mean background where there is none."""

    def __init__(self) -> None:
        self._background_sum: np.ndarray = np.zeros(())
        self._background_count = 0

    def add(self, prepared: Prepared, foreground: np.ndarray) -> None:
        target, valid = _target_of(prepared), _valid_of(prepared)
        foreground, background = foreground & valid, ~foreground & valid
        outside = target[:, background]
        self._background_sum = self._background_sum + outside.sum(axis=1, dtype=np.float64)
        self._background_count += outside.shape[1]
        self.add_voxels(prepared.source[:, foreground], target[:, foreground])

    def predict(self, prepared: Prepared) -> np.ndarray:
        foreground = foreground_of(prepared)
        inside = self.predict_voxels(prepared.source[:, foreground])
        predicted = np.empty((len(inside), *foreground.shape), dtype=np.float32)
        background = self._background_sum / max(self._background_count, 1)
        predicted[:] = background[:, None, None, None]
        predicted[:, foreground] = inside
        return predicted.clip(0, 1)

    @abstractmethod
    def add_voxels(self, source: np.ndarray, target: np.ndarray) -> None:
        """Take in foreground voxels, `(sources, n)` and `(targets, n)`."""

    @abstractmethod
    def predict_voxels(self, source: np.ndarray) -> np.ndarray:
        """The targets `(targets, n)` of foreground voxels `(sources, n)`."""


class SourceLinear(_OfIntensities):
    """The least-squares line from all sources to each target."""

    def __init__(self) -> None:
        super().__init__()
        self._squares: np.ndarray = np.zeros(())
        self._products: np.ndarray = np.zeros(())

    def add_voxels(self, source: np.ndarray, target: np.ndarray) -> None:
        terms = _with_constant(source)
        self._squares = self._squares + terms @ terms.T
        self._products = self._products + terms @ target.T.astype(np.float64)

    def predict_voxels(self, source: np.ndarray) -> np.ndarray:
        # lstsq rather than solve: a source that is constant in every foreground leaves the equations singular.
        weights = np.linalg.lstsq(self._squares, self._products, rcond=None)[0]
        return np.asarray(weights.T @ _with_constant(source))


class SourceLUT(_OfIntensities):
    """The mean target for each of 64 equal bins of the first source's intensity; empty bins by interpolation."""

    def __init__(self) -> None:
        super().__init__()
        self._sums: np.ndarray = np.zeros(())
        self._counts = np.zeros(_BINS)

    def add_voxels(self, source: np.ndarray, target: np.ndarray) -> None:
        bins = _bins(source[0])
        self._counts += np.bincount(bins, minlength=_BINS)
        self._sums = self._sums + np.stack([np.bincount(bins, weights=one, minlength=_BINS) for one in target])

    def predict_voxels(self, source: np.ndarray) -> np.ndarray:
        filled = np.flatnonzero(self._counts)
        means = self._sums[:, filled] / self._counts[filled]
        table = np.stack([np.interp(np.arange(_BINS), filled, one) for one in means])
        return np.asarray(table[:, _bins(source[0])])


class TrainingMean(Baseline):
    """The mean training target, the cases aligned by the centroids of their foregrounds.

    It lives on the grid of the first training case; other cases are shifted onto it, and it onto a new case, by linear
    interpolation in mm along the axes. Beyond its edge it goes on as it ends.
    """

    def __init__(self) -> None:
        self._sum: np.ndarray = np.zeros(())
        self._count: np.ndarray = np.zeros(())
        self._centroid: np.ndarray = np.zeros(3)
        self._spacing_mm: np.ndarray = np.ones(3)

    def add(self, prepared: Prepared, foreground: np.ndarray) -> None:
        target = _target_of(prepared)
        centroid, spacing_mm = _centroid(foreground), np.asarray(prepared.grid.spacing_mm)
        if not self._sum.ndim:
            self._sum = np.zeros(target.shape)
            self._count = np.zeros(foreground.shape)
            self._centroid, self._spacing_mm = centroid, spacing_mm
        scale = self._spacing_mm / spacing_mm
        offset = centroid - self._centroid * scale
        covered = _covered(self._count.shape, foreground.shape, scale, offset)
        if prepared.valid is not None:
            covered *= _resampled(_valid_of(prepared).astype(np.float32), scale, offset, self._count.shape) > _WHOLLY
        for total, channel in zip(self._sum, target, strict=True):
            total += covered * _resampled(channel, scale, offset, self._count.shape)
        self._count += covered

    def predict(self, prepared: Prepared) -> np.ndarray:
        foreground = foreground_of(prepared)
        # A case without foreground has no centroid; its middle is as good a guess as any.
        centroid = _centroid(foreground if foreground.any() else np.ones_like(foreground))
        scale = np.asarray(prepared.grid.spacing_mm) / self._spacing_mm
        offset = self._centroid - centroid * scale
        mean = (self._sum / np.maximum(self._count, 1)).astype(np.float32)
        predicted = np.stack([_resampled(channel, scale, offset, foreground.shape) for channel in mean])
        return predicted.clip(0, 1)


def _target_of(prepared: Prepared) -> np.ndarray:
    if prepared.target is None:
        raise DataError("A training case of the trivial baselines has no target.")
    return prepared.target


def _valid_of(prepared: Prepared) -> np.ndarray:
    """Where all images of a case have data, booleans `(i, j, k)`."""
    valid = prepared.valid
    return np.ones(prepared.grid.shape, dtype=bool) if valid is None else valid


def _with_constant(source: np.ndarray) -> np.ndarray:
    return np.concatenate([source, np.ones_like(source[:1])]).astype(np.float64)


def _bins(source: np.ndarray) -> np.ndarray:
    return np.clip((source * _BINS).astype(np.intp), 0, _BINS - 1)


def _centroid(foreground: np.ndarray) -> np.ndarray:
    axes = [foreground.sum(axis=tuple({0, 1, 2} - {axis})) for axis in range(3)]
    return np.array([np.arange(len(count)) @ count / count.sum() for count in axes])


def _resampled(channel: np.ndarray, scale: np.ndarray, offset: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """`channel` at `scale * index + offset` for every index of `shape`, the edge going on outside."""
    return np.asarray(
        affine_transform(channel, scale, offset, shape, output=np.float32, order=1, mode="nearest", prefilter=False)
    )


def _covered(shape: tuple[int, ...], other: tuple[int, ...], scale: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """Where `scale * index + offset` lies inside a volume of shape `other`: 1, else 0, over `shape`."""
    inside = []
    for axis in range(3):
        position = scale[axis] * np.arange(shape[axis]) + offset[axis]
        # The first case's own positions are whole numbers but for rounding.
        inside.append((position > -1e-6) & (position < other[axis] - 1 + 1e-6))
    return np.asarray(inside[0][:, None, None] & inside[1][:, None] & inside[2], dtype=np.float64)
