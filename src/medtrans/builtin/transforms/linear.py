"""Scalings by two numbers of an image, `low` and `high`, which become 0 and 1."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from medtrans import ConfigError, DataError, Preprocess

__all__ = ["Linear", "MinMax", "Percentile", "Window", "ZScore", "bright", "inside", "limits"]

_BRIGHT = 0.1  # of the robust intensity range: the rule by which volumes are cropped to their foreground


class Linear(Preprocess, ABC):
    """Base of scalings whose numbers are `low`, which becomes 0, and `high`, which becomes 1."""

    voxelwise: ClassVar[bool] = True

    def apply(self, volume: np.ndarray, numbers: Mapping[str, float]) -> np.ndarray:
        """The volume in float32, clipped to [0, 1]; of any shape and number type."""
        scaled = volume.astype(np.float64)  # integers would wrap, and float32 would lose digits of wide ranges
        scaled -= numbers["low"]
        scaled /= numbers["high"] - numbers["low"]
        return np.clip(scaled, 0, 1, out=scaled).astype(np.float32)

    def invert(self, volume: np.ndarray, numbers: Mapping[str, float]) -> np.ndarray:
        """A volume in [0, 1] back in native intensities, in float32; of any shape."""
        native = volume.astype(np.float64)
        native *= numbers["high"] - numbers["low"]
        native += numbers["low"]
        return native.astype(np.float32)


def inside(volume: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """The voxels to fit to: those inside the mask, or all where there is none.

    Raises:
        DataError: there are none.
    """
    voxels = volume if mask is None else volume[mask]
    if not voxels.size:
        raise DataError("the mask holds no voxel, so there is nothing to fit to; check the mask")
    return voxels


def bright(volume: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """The voxels to fit to where background must not count: inside the mask, else the foreground.

    The foreground is what is brighter than the 0.5th percentile by more than a tenth of the distance to the 99.5th;
    where nothing is, all voxels.

    Raises:
        DataError: the mask holds no voxel.
    """
    if mask is not None:
        return inside(volume, mask)
    low, high = np.percentile(volume, (0.5, 99.5))
    foreground = volume[volume > low + _BRIGHT * (high - low)]
    return foreground if foreground.size else volume


def limits(low: float, high: float, voxels: np.ndarray | Callable[[], Sequence[float]]) -> dict[str, float]:
    """The numbers of a fit, once it is sure that they can scale; `voxels` may be a function of the extreme values.

    Raises:
        DataError: `high` is not above `low`, or one is not finite.
    """
    if np.isfinite(low) and np.isfinite(high) and high > low:
        return {"low": float(low), "high": float(high)}
    values = voxels() if callable(voxels) else voxels
    smallest, largest = float(np.min(values)), float(np.max(values))
    if smallest == largest:
        raise DataError(f"every voxel is {smallest:g}: nothing to normalise; exclude the case")
    raise DataError(
        f"nothing to normalise between {low:g} and {high:g}, although values go from {smallest:g} to {largest:g}; "
        f"take wider percentiles, minmax or window, or exclude the case"
    )


class MinMax(Linear):
    """Scale each image by its own smallest and largest value.

    They are those inside the mask where there is one, else of the whole volume. Nothing is clipped without a mask,
    but one bright voxel darkens all others; `percentile` withstands it.

    Source: arXiv 2412.00575 scales MR so, over the whole volume.
    """

    fitted: ClassVar[bool] = True

    def fit(self, volume: np.ndarray, mask: np.ndarray | None) -> dict[str, float]:
        """The limits `low` and `high`.

        Raises:
            DataError: all values are equal, or the mask holds no voxel.
        """
        voxels = inside(volume, mask)
        return limits(float(voxels.min()), float(voxels.max()), voxels)

    def fit_percentiles(self, percentiles: Callable[[Sequence[float]], list[float]]) -> dict[str, float]:
        """The same limits of a volume whose percentiles are known."""
        low, high = percentiles((0, 100))
        return limits(low, high, lambda: (low, high))


class Percentile(Linear):
    """Scale each image by two percentiles of its own values, and clip what lies beyond.

    They are taken inside the mask where there is one, else over the whole (cropped) volume with its background.

    Args:
        lower: percentile that becomes 0.
        upper: percentile that becomes 1; above `lower`.

    Raises:
        ConfigError: `upper` is not above `lower`.
    """

    fitted: ClassVar[bool] = True

    def __init__(
        self, *, lower: Annotated[float, Field(ge=0, lt=100)] = 0.5, upper: Annotated[float, Field(gt=0, le=100)] = 99.5
    ) -> None:
        if not 0 <= lower < upper <= 100:
            raise ConfigError(f"percentile: expected 0 <= lower < upper <= 100, found lower {lower:g}, upper {upper:g}")
        self.lower = lower
        self.upper = upper
        self.clips = (lower + 100 - upper) / 100

    def fit(self, volume: np.ndarray, mask: np.ndarray | None) -> dict[str, float]:
        """The limits `low` and `high`.

        Raises:
            DataError: the percentiles are equal, or the mask holds no voxel.
        """
        voxels = inside(volume, mask)
        low, high = np.percentile(voxels, (self.lower, self.upper))
        return limits(float(low), float(high), voxels)

    def fit_percentiles(self, percentiles: Callable[[Sequence[float]], list[float]]) -> dict[str, float]:
        """The same limits of a volume whose percentiles are known."""
        low, high = percentiles((self.lower, self.upper))
        return limits(low, high, lambda: percentiles((0, 100)))


class Window(Linear):
    """Scale all images by the same two intensities, and clip what lies beyond: for CT and other images with a unit.

    Args:
        range: native intensities that become 0 and 1, the second above the first.
        unit: of the native intensities.

    Raises:
        ConfigError: `range` is not two finite numbers of which the second is larger.

    Source: arXiv 2412.00575 scales CT so, from -1024 to 3000 HU.
    """

    fitted: ClassVar[bool] = False

    def __init__(
        self,
        *,
        range: tuple[float, float] = (-1024.0, 3000.0),  # noqa: A002 -- the option's natural name
        unit: str = "HU",
    ) -> None:
        low, high = range
        if not (isfinite(low) and isfinite(high) and low < high):
            raise ConfigError(f"window: expected range [low, high] with low < high, found [{low:g}, {high:g}]")
        self.range = (float(low), float(high))
        self.unit = unit
        self.data_range = float(high) - float(low)

    def fit(self, volume: np.ndarray, mask: np.ndarray | None) -> dict[str, float]:
        """The limits `low` and `high`, the same for every volume."""
        return {"low": self.range[0], "high": self.range[1]}

    def fit_percentiles(self, percentiles: Callable[[Sequence[float]], list[float]]) -> dict[str, float]:
        """The limits, which no volume changes."""
        return {"low": self.range[0], "high": self.range[1]}


class ZScore(Linear):
    """Scale each image by its mean and standard deviation, and clip what lies beyond `clip_sd` of them.

    Both are taken inside the mask where there is one, else over the foreground: what is brighter than the 0.5th
    percentile by more than a tenth of the distance to the 99.5th. The mean becomes 0.5.

    Args:
        clip_sd: standard deviations from the mean to 0 and to 1.
    """

    fitted: ClassVar[bool] = True

    def __init__(self, *, clip_sd: Annotated[float, Field(gt=0)] = 4.0) -> None:
        self.clip_sd = clip_sd

    def fit(self, volume: np.ndarray, mask: np.ndarray | None) -> dict[str, float]:
        """The limits `low` and `high`, `clip_sd` standard deviations below and above the mean.

        Raises:
            DataError: all values are equal, or the mask holds no voxel.
        """
        voxels = bright(volume, mask)
        mean = float(voxels.mean(dtype=np.float64))
        reach = self.clip_sd * float(voxels.std(dtype=np.float64))
        return limits(mean - reach, mean + reach, voxels)
