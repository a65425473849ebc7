"""Owns the straight line between native intensities and [0, 1] that the built-in scalings share."""

from __future__ import annotations

from abc import ABC
from typing import TYPE_CHECKING

import numpy as np

from medtrans import DataError, Preprocess

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Linear", "inside", "limits"]


class Linear(Preprocess, ABC):
    """Base of scalings whose numbers are `low`, which becomes 0, and `high`, which becomes 1."""

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


def limits(low: float, high: float, voxels: np.ndarray) -> dict[str, float]:
    """The numbers of a fit, once it is sure that they can scale.

    Raises:
        DataError: `high` is not above `low`, or one is not finite.
    """
    if np.isfinite(low) and np.isfinite(high) and high > low:
        return {"low": float(low), "high": float(high)}
    smallest, largest = float(voxels.min()), float(voxels.max())
    if smallest == largest:
        raise DataError(f"every voxel is {smallest:g}: nothing to normalise; exclude the case")
    raise DataError(
        f"nothing to normalise between {low:g} and {high:g}, although values go from {smallest:g} to {largest:g}; "
        f"take wider percentiles, minmax or window, or exclude the case"
    )
