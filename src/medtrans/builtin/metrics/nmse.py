"""Owns the normalised mean squared error."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from medtrans import Metric
from medtrans.builtin.metrics import compared_voxels

__all__ = ["NMSE"]


class NMSE(Metric):
    """Mean squared error relative to the target's variance: 0 is perfect, 1 is as good as the target's mean everywhere.

    NaN where the target is constant, since the ratio is then undefined.

    Source: the evaluation of Ha et al. (arXiv 2412.00575) divides by the variance; much other work divides by the
    energy, which depends on where the intensity scale has its zero. The two must not be mixed in one table.

    Args:
        norm: divide by the target's "variance", or by its "energy" (its mean square).
    """

    unit = ""
    higher_is_better = False

    def __init__(self, *, norm: Literal["variance", "energy"] = "variance") -> None:
        self.norm = norm
        divisor = "var(target)" if norm == "variance" else "mean(target^2)"
        self.definition = f"mean((prediction - target)^2) / {divisor}"

    def __call__(
        self,
        prediction: np.ndarray,
        target: np.ndarray,
        mask: np.ndarray | None,
        spacing_mm: Sequence[float],
    ) -> float:
        """Score `prediction` against `target`, both `(i, j, k)`, inside `mask`.

        Raises:
            DataError: the shapes differ, or the mask holds no voxel.
        """
        predicted, true = compared_voxels(prediction, target, mask)
        if self.norm == "variance":
            # A constant's variance may come out as rounding dust, hence the range.
            divisor = float(np.var(true)) if np.ptp(true) > 0 else 0.0
        else:
            divisor = float(np.mean(true**2))
        return float(np.mean((predicted - true) ** 2)) / divisor if divisor > 0 else math.nan
