"""Consistency of a prediction across slices and across windows; neither metric needs a true image."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated

import numpy as np
from pydantic import Field

from medtrans import Surroundings
from medtrans.builtin.metrics import AXES, DetailedVolumeMetric, compared_voxels

__all__ = ["Seam", "SliceConsistency"]


class Seam(DetailedVolumeMetric):
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

    def columns(
        self, prediction: np.ndarray, target: np.ndarray, mask: np.ndarray | None, surroundings: Surroundings
    ) -> Mapping[str, float]:
        here, _ = compared_voxels(prediction, target, mask)
        if surroundings.retranslated is None:
            return {"": math.nan}
        moved, _ = compared_voxels(surroundings.retranslated(self.shift), target, mask)
        return {"": float(np.mean(np.abs(here - moved)))}


class SliceConsistency(DetailedVolumeMetric):
    """How much rougher the error is across slices than within them, for the axis where that is worst.

    For each axis the mean absolute second difference of the error `prediction - target` along it, over the mean of the
    two along the other axes: 1 is as rough in every direction, above 1 streaks between slices counted along the axis,
    as 2D networks leave them. 0 where the error does not bend along the axis, infinite where it bends there only.
    Voxels count, not mm; only three neighbours that all lie in the mask do. The columns `<key>_i`, `<key>_j` and
    `<key>_k` hold the axes. NaN where nothing can be measured.
    """

    unit = ""
    higher_is_better = False
    definition = "the largest over axes of mean |second difference of the error across slices| / the same within them"

    def __init__(self) -> None:
        self.parts = {
            axis: f"mean |second difference of the error along {axis}| / mean of the same along the other axes"
            for axis in AXES
        }

    def columns(
        self, prediction: np.ndarray, target: np.ndarray, mask: np.ndarray | None, surroundings: Surroundings
    ) -> Mapping[str, float]:
        error = prediction.astype(np.float64) - target
        roughness = [_roughness(error, mask, axis) for axis in range(3)]
        ratios = {
            name: _ratio(roughness[axis], (roughness[axis - 1] + roughness[axis - 2]) / 2)
            for axis, name in enumerate(AXES)
        }
        known = [ratio for ratio in ratios.values() if not math.isnan(ratio)]
        return {"": max(known, default=math.nan), **ratios}


def _roughness(error: np.ndarray, mask: np.ndarray | None, axis: int) -> float:
    bends = np.abs(np.diff(error, 2, axis))
    if mask is not None:
        inside = np.moveaxis(mask, axis, 0)
        bends = np.moveaxis(bends, axis, 0)[inside[:-2] & inside[1:-1] & inside[2:]]
    return float(bends.mean()) if bends.size else math.nan


def _ratio(across: float, within: float) -> float:
    if across == 0:
        return 0.0
    return across / within if within != 0 else math.inf
