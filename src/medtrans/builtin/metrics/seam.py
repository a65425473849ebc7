"""Owns the seams: what a prediction owes to where its windows happened to lie."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from medtrans import DetailedMetric, Surroundings
from medtrans.builtin.metrics import compared_voxels

__all__ = ["Seam"]


class Seam(DetailedMetric):
    """Mean absolute difference between a prediction and the same with all windows moved: 0 is independent of them.

    The target is not looked at. Every case is translated once more, in validation too. Where windows cover a whole axis
    they are not moved along it. NaN for predictions that were not made by windows: those of the trivial baselines, and
    those read from files.

    Args:
        shift: by which share of its side a window is moved along each axis.
    """

    unit = "native"
    higher_is_better = False

    def __init__(self, *, shift: Annotated[float, Field(gt=0, lt=1)] = 0.25) -> None:
        self.shift = shift
        self.definition = f"mean |prediction - prediction with windows moved by {shift:g} of their side|"

    def scores(
        self,
        prediction: np.ndarray,
        target: np.ndarray,
        mask: np.ndarray | None,
        spacing_mm: Sequence[float],
        surroundings: Surroundings,
    ) -> Mapping[str, float]:
        """Compare `prediction` `(i, j, k)` with the retranslated one inside `mask`.

        Raises:
            DataError: the shapes differ, or the mask holds no voxel.
        """
        here, _ = compared_voxels(prediction, target, mask)
        if surroundings.retranslated is None:
            return {"": math.nan}
        moved, _ = compared_voxels(surroundings.retranslated(self.shift), target, mask)
        return {"": float(np.mean(np.abs(here - moved)))}
