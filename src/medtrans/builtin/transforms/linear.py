"""Owns what the built-in scalings share: the straight line to [0, 1], and which voxels a fit looks at."""

from __future__ import annotations

from abc import ABC
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from medtrans import DataError, Preprocess

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Linear", "bright", "inside", "limits", "sound_limits"]

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


def limits(low: float, high: float, voxels: np.ndarray) -> dict[str, float]:
    """The numbers of a fit, once it is sure that they can scale.

    Raises:
        DataError: `high` is not above `low`, or one is not finite.
    """
    return sound_limits(low, high, lambda: (float(voxels.min()), float(voxels.max())))


def sound_limits(low: float, high: float, extremes: Callable[[], tuple[float, float]]) -> dict[str, float]:
    """As `limits`, with a function that gives the smallest and the largest value."""
    if np.isfinite(low) and np.isfinite(high) and high > low:
        return {"low": float(low), "high": float(high)}
    smallest, largest = extremes()
    if smallest == largest:
        raise DataError(f"every voxel is {smallest:g}: nothing to normalise; exclude the case")
    raise DataError(
        f"nothing to normalise between {low:g} and {high:g}, although values go from {smallest:g} to {largest:g}; "
        f"take wider percentiles, minmax or window, or exclude the case"
    )
