"""Owns the coarse look of a volume: the mean of each of its blocks, so that volumes of any size can be compared."""

from __future__ import annotations

import numpy as np

__all__ = ["block_means", "correlation"]


def block_means(volume: np.ndarray, blocks: int = 8) -> np.ndarray:
    """The means of `blocks`^3 equal blocks of a volume `(i, j, k)`; sides shorter than that repeat voxels."""
    for axis in range(3):
        side = volume.shape[axis]
        if side < blocks:
            volume = np.repeat(volume, -(-blocks // side), axis=axis)
            side = volume.shape[axis]
        edges = np.linspace(0, side, blocks + 1).round().astype(int)
        sums = np.add.reduceat(volume, edges[:-1], axis=axis, dtype=np.float64)
        counts = np.diff(edges).reshape([-1 if other == axis else 1 for other in range(3)])
        volume = sums / counts
    return np.asarray(volume)


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Pearson's, over all elements; 1 for two that are equal, 0 where just one is constant."""
    one, two = (np.asarray(each, dtype=np.float64).ravel() for each in (first, second))
    one, two = one - one.mean(), two - two.mean()
    size = float(np.linalg.norm(one) * np.linalg.norm(two))
    if size == 0:
        return 1.0 if np.array_equal(first, second) else 0.0
    return float(np.clip(one @ two / size, -1, 1))
