"""Owns the normalised cross-correlation."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from medtrans import Metric
from medtrans.builtin.metrics import compared_voxels

__all__ = ["NCC"]


class NCC(Metric):
    """Normalised cross-correlation of a whole volume, which is Pearson's correlation of its voxels; from -1 to 1.

    It forgives a wrong brightness and contrast. NaN where either volume is constant.
    """

    unit = ""
    higher_is_better = True
    definition = "cov(prediction, target) / (sd(prediction) sd(target)) over all voxels at once (Pearson)"

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
        # A constant's variance may come out as rounding dust, hence the range.
        if np.ptp(predicted) == 0 or np.ptp(true) == 0:
            return math.nan
        predicted, true = predicted - predicted.mean(), true - true.mean()
        return float(predicted @ true / math.sqrt((predicted @ predicted) * (true @ true)))
