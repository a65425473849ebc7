"""A metric that ignores brightness and contrast."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from medtrans import Component, DataError, Metric, hookimpl

__all__ = ["Correlation"]

PLUGIN_API = "1.0"


class Correlation(Metric):
    """Pearson's correlation of the voxels; NaN where one of the two volumes is constant."""

    unit = ""
    higher_is_better = True
    definition = "cov(prediction, target) / (sd(prediction) sd(target))"

    def __call__(
        self, prediction: np.ndarray, target: np.ndarray, mask: np.ndarray | None, spacing_mm: Sequence[float]
    ) -> float:
        """Score `(i, j, k)` inside the boolean mask where there is one.

        Raises:
            DataError: the mask is empty.
        """
        inside = np.ones(target.shape, bool) if mask is None else mask
        if not inside.any():
            raise DataError("the mask is empty, so there is nothing to score")
        one, other = (volume[inside].astype(np.float64) for volume in (prediction, target))
        one, other = one - one.mean(), other - other.mean()
        spread = math.sqrt(float(np.square(one).sum() * np.square(other).sum()))
        return float((one * other).sum()) / spread if spread > 0 else math.nan


@hookimpl
def medtrans_metrics() -> list[Component]:
    """What this plugin offers; `trial` tells `medtrans plugins test` the score of identical volumes."""
    return [Component("correlation", Correlation, trial={"identical": 1.0})]
