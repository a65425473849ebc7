"""Owns Dice: how far two regions overlap."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medtrans import Metric
from medtrans.builtin.metrics import compared_voxels

__all__ = ["Dice"]


class Dice(Metric):
    """Twice the voxels that prediction and target share over the voxels of both, for one label.

    Without a voxel of the label in either it is 1, as BraTS counts it; without one in just one of them it is 0.

    Source: Dice, "Measures of the amount of ecologic association between species", Ecology 26, 1945.

    Args:
        label: the value of the region's voxels.
    """

    unit = ""
    higher_is_better = True

    def __init__(self, *, label: int) -> None:
        self.label = label
        self.definition = f"2 |P and T| / (|P| + |T|) of label {label}; 1 where both are empty"

    def __call__(
        self,
        prediction: np.ndarray,
        target: np.ndarray,
        mask: np.ndarray | None,
        spacing_mm: Sequence[float],
    ) -> float:
        """Score label maps `(i, j, k)`, inside `mask` where there is one.

        Raises:
            DataError: the shapes differ, or the mask holds no voxel.
        """
        predicted, true = (values == self.label for values in compared_voxels(prediction, target, mask))
        both = int(predicted.sum()) + int(true.sum())
        return 2 * int((predicted & true).sum()) / both if both else 1.0
