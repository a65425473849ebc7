"""Owns which voxels the built-in metrics look at, and the checks that all of them share."""

from __future__ import annotations

import numpy as np

from medtrans import ConfigError, DataError

__all__ = ["compared_voxels", "require_comparable", "width_of"]


def require_comparable(prediction: np.ndarray, target: np.ndarray, mask: np.ndarray | None) -> None:
    """Check that two volumes can be compared.

    Raises:
        DataError: the shapes differ, or the mask holds no voxel.
    """
    if prediction.shape != target.shape:
        raise DataError(
            f"The prediction has shape {prediction.shape} but the target {target.shape}: bring both onto one grid."
        )
    if mask is None:
        return
    if mask.shape != target.shape:
        raise DataError(f"The mask has shape {mask.shape} but the target {target.shape}: bring both onto one grid.")
    if not mask.any():
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
