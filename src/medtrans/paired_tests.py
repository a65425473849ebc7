"""Owns what tells a difference from chance where the same subjects were scored twice: tests and effect sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import wilcoxon

from medtrans.statistics import bca_interval

__all__ = ["holm", "sign_flip_p", "standardised_effect", "wilcoxon_p"]

_DRAWS = 9999
_CHUNK = 256


def wilcoxon_p(differences: np.ndarray) -> np.ndarray:
    """Two-sided p of Wilcoxon's signed-rank test that differences scatter evenly about 0.

    Exact for up to 50 differences without ties; differences of 0 are left out, and 1 is given where all are.

    Args:
        differences: `(..., n)`, one a subject; each line is a test of its own.
    """
    differences = np.asarray(differences, dtype=np.float64)
    lines = differences.reshape(-1, differences.shape[-1])
    p = np.ones(len(lines))
    moved = (lines != 0).any(axis=1)
    if moved.any():
        p[moved] = wilcoxon(lines[moved], axis=-1).pvalue
    return p.reshape(differences.shape[:-1])


def sign_flip_p(differences: np.ndarray, *, draws: int = _DRAWS, seed: int = 0) -> np.ndarray:
    """Two-sided p of the paired permutation test of the mean: how often random signs give one as far from 0.

    All signs are tried where there are no more than draws, which makes the test exact.

    Args:
        differences: `(..., n)`, one a subject; each line is a test of its own, by the same signs.
        draws: random sets of signs.
        seed: of the draws.
    """
    differences = np.asarray(differences, dtype=np.float64)
    lines = differences.reshape(-1, differences.shape[-1])
    n = lines.shape[1]
    exact = n < 63 and 2**n <= draws
    if exact:
        signs = 1.0 - 2.0 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
    else:
        signs = np.random.default_rng(seed).choice((-1.0, 1.0), size=(draws, n))
    p = np.empty(len(lines))
    for first in range(0, len(lines), _CHUNK):
        some = lines[first : first + _CHUNK]
        # Sums of the same numbers in another order differ by rounding, and must count as equal.
        observed = np.abs(some.sum(axis=1)) - 1e-12 * np.abs(some).sum(axis=1)
        extreme = (np.abs(signs @ some.T) >= observed).sum(axis=0)
        p[first : first + _CHUNK] = extreme / len(signs) if exact else (extreme + 1) / (draws + 1)
    return p.reshape(differences.shape[:-1])


def holm(p: Sequence[float]) -> list[float]:
    """P-values corrected by Holm for as many tests as there are, in the order given."""
    order = np.argsort(p)
    corrected = np.empty(len(p))
    highest = 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p) - rank) * p[index]))
        corrected[index] = highest
    return [float(value) for value in corrected]


def standardised_effect(differences: np.ndarray, *, seed: int = 0) -> dict[str, Any]:
    """Cohen's d of paired differences: their mean over their standard deviation.

    Args:
        differences: `(n,)`, one a subject.
        seed: of the bootstrap.

    Returns:
        "d" and "ci95", each None where there is no spread or fewer than three subjects.
    """
    # Equal differences leave rounding dust as their spread.
    if len(differences) < 3 or np.ptp(differences) <= 1e-12 * np.abs(differences).max():
        return {"d": None, "ci95": None}

    def effect(values: np.ndarray, axis: int = -1) -> Any:
        return values.mean(axis=axis) / values.std(axis=axis, ddof=1)

    return {"d": float(effect(differences)), "ci95": bca_interval((differences,), effect, seed=seed)}
