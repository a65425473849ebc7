"""Owns the mean absolute error."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medtrans import Metric
from medtrans.builtin.metrics import compared_voxels

__all__ = ["MAE"]


class MAE(Metric):
    """Mean absolute error in the target's own unit: HU where the target's scaling is fixed, else none.

    `unit` is "native": the evaluation writes the target's unit in its place.
    """

    unit = "native"
    higher_is_better = False
    definition = "mean(|prediction - target|)"

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
        return float(np.mean(np.abs(predicted - true)))
