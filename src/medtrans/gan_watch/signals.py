"""Owns the figures the watch goes by: how far predictions differ from each other and from what they were made of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medtrans.seeds import derived_seed

__all__ = ["Likeness", "Look", "correlation", "look_at", "nearest_correlation", "spread"]

SAMPLES = 16
"""Pieces of the validation cases, at least, that are compared with each other."""

SIDE = 16
"""Voxels along each side of a piece."""


@dataclass(frozen=True)
class Likeness:
    """Correlations in the foreground of one case; NaN where an image is constant.

    Args:
        copied: of a source channel with a predicted target.
        true: of the same source channel with the target itself.
    """

    copied: float
    true: float


@dataclass(frozen=True)
class Look:
    """What is kept of one validation case.

    Args:
        source: pieces `(n, c, SIDE, SIDE, SIDE)`.
        prediction: the same pieces of the prediction.
        target: the same pieces of the target.
        likenesses: for each source channel with each target, in that order.
    """

    source: np.ndarray
    prediction: np.ndarray
    target: np.ndarray
    likenesses: tuple[Likeness, ...]


def look_at(
    number: int,
    cases: int,
    source: np.ndarray,
    prediction: np.ndarray,
    target: np.ndarray,
    foreground: np.ndarray,
) -> Look:
    """Look at one case: pieces that lie where there is foreground, at the same places at every validation.

    Args:
        number: of the case; the places depend on nothing else.
        cases: how many are looked at in all.
        source: `(c, i, j, k)` in [0, 1].
        prediction: `(t, i, j, k)` in [0, 1].
        target: likewise.
        foreground: `(i, j, k)` booleans.
    """
    places = _places(number, math.ceil(SAMPLES / cases), foreground)
    first, second, third = (np.stack([image[place] for place in places]) for image in (source, prediction, target))
    inside = foreground if foreground.any() else np.ones_like(foreground)
    likenesses = tuple(
        Likeness(correlation(given[inside], made[inside]), correlation(given[inside], true[inside]))
        for given in source
        for made, true in zip(prediction, target, strict=True)
    )
    return Look(first, second, third, likenesses)


def spread(samples: np.ndarray) -> float:
    """How far samples `(n, ...)` differ from each other: their standard deviation at a voxel, mean over voxels."""
    return float(np.std(samples.astype(np.float64), axis=0).mean())


def nearest_correlation(samples: np.ndarray) -> float:
    """The correlation of a sample `(n, ...)` with the one most like it, median over samples; of constant ones 1."""
    rows = samples.reshape(len(samples), -1).astype(np.float64)
    rows -= rows.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(rows, axis=1)
    flat = norms < 1e-9 * math.sqrt(rows.shape[1])
    rows /= np.where(flat, 1, norms)[:, None]
    table = rows @ rows.T
    table[np.ix_(flat, flat)] = 1
    np.fill_diagonal(table, -1)
    return float(np.median(table.max(axis=1)))


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Normalised cross-correlation of two images; NaN where one of them is constant."""
    first, second = (image.astype(np.float64).ravel() - image.mean(dtype=np.float64) for image in (one, other))
    norm = np.linalg.norm(first) * np.linalg.norm(second)
    return float(first @ second / norm) if norm > 1e-12 else math.nan


def _places(number: int, count: int, foreground: np.ndarray) -> list[tuple[slice | np.ndarray, ...]]:
    inside = np.argwhere(foreground)
    if not len(inside):
        inside = np.array([[side // 2 for side in foreground.shape]])
    rng = np.random.default_rng(derived_seed(0, "watch", number))
    return [_piece(centre, foreground.shape) for centre in inside[rng.integers(len(inside), size=count)]]


def _piece(centre: Sequence[int], shape: Sequence[int]) -> tuple[slice | np.ndarray, ...]:
    """Indices of a piece around a voxel; where an image is smaller, the voxels at its edge are repeated."""
    axes = [
        np.clip(np.arange(SIDE) + max(0, min(int(middle) - SIDE // 2, side - SIDE)), 0, side - 1)
        for middle, side in zip(centre, shape, strict=True)
    ]
    return (slice(None), *np.ix_(*axes))
