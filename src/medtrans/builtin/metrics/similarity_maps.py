"""Owns the local statistics of two volumes that structural similarities are made of."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.ndimage import uniform_filter

__all__ = ["BORDER", "WINDOW", "LocalStatistics", "inner", "local_statistics"]

WINDOW = 7
"""Side of the window in voxels, as Ha et al. and both SynthRAD challenges have it."""

BORDER = WINDOW // 2
"""How many voxels from an edge a window still sticks out of the volume."""


class LocalStatistics(NamedTuple):
    """Means, variances and the covariance in the window around each voxel, the last three of the sample (n - 1)."""

    mean_x: np.ndarray
    mean_y: np.ndarray
    variance_x: np.ndarray
    variance_y: np.ndarray
    covariance: np.ndarray


def local_statistics(x: np.ndarray, y: np.ndarray) -> LocalStatistics:
    """Of two float64 volumes, in uniform 7^3 windows that see the volume mirrored beyond its edges."""
    voxels = WINDOW**3
    sample = voxels / (voxels - 1)
    mean_x, mean_y = uniform_filter(x, WINDOW), uniform_filter(y, WINDOW)
    return LocalStatistics(
        mean_x,
        mean_y,
        # Rounding can take the variance of a flat region below 0, where it has no root.
        np.maximum(sample * (uniform_filter(x * x, WINDOW) - mean_x * mean_x), 0),
        np.maximum(sample * (uniform_filter(y * y, WINDOW) - mean_y * mean_y), 0),
        sample * (uniform_filter(x * y, WINDOW) - mean_x * mean_y),
    )


def inner(volume: np.ndarray) -> np.ndarray:
    """A volume without the voxels whose window sticks out of it."""
    return volume[(slice(BORDER, -BORDER),) * 3]
