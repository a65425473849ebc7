"""How far a dose planned on a synthetic CT is from the dose on the real one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, TypeAlias

import numpy as np
from pydantic import Field

from medtrans import Surroundings
from medtrans.builtin.metrics import DetailedVolumeMetric, VoxelMetric

__all__ = ["DoseDVH", "DoseMAE"]

Gray: TypeAlias = Annotated[float, Field(gt=0)]
Label: TypeAlias = Annotated[int, Field(ge=0)]

_EPS = 1e-12  # as the challenge has it, against a true value of 0
_ORGANS = 3
_COVERED = 0.95  # matRad's share of the prescription from which a voxel counts as treated


class DoseMAE(VoxelMetric):
    """Mean absolute difference of two doses where the true one is at least 90 % of the prescription, as a share of it.

    Prediction and target are dose arrays in Gy, not images. NaN where no voxel gets so much.

    Source: measure (a) of SynthRAD2023, which recalculates plans with matRad; there the prescription is 2.0 Gy a
    fraction for the brain and 3.0 Gy for the pelvis.

    Args:
        prescribed_gy: the dose prescribed.
    """

    unit = ""
    higher_is_better = False

    def __init__(self, *, prescribed_gy: Gray) -> None:
        self.prescribed_gy = prescribed_gy
        self.definition = f"mean(|prediction - target|) / D where target >= 0.9 D, D = {prescribed_gy:g} Gy"

    def score(self, prediction: np.ndarray, target: np.ndarray) -> float:
        high = target >= 0.9 * self.prescribed_gy
        return float(np.mean(np.abs(prediction - target)[high]) / self.prescribed_gy) if high.any() else math.nan


class DoseDVH(DetailedVolumeMetric):
    """Relative differences of dose-volume numbers of the target volume (PTV) and of up to three organs, added up.

    Prediction and target are dose arrays in Gy. The sum is that of the relative differences |a - b| / b of D98 and of
    the conformity of the PTV, and of the means over organs of those of D2 and of the mean dose. The organs are the
    three with the highest (D5 + mean) / 2 of the true dose. Dx is the dose that x % of a structure get at least. NaN
    where the map or the PTV is missing; without organs their two terms are 0. The columns `<key>_d98`,
    `<key>_conformity`, `<key>_d2` and `<key>_mean` hold the terms.

    Source: measure (b) of SynthRAD2023. What is called V95 there is a conformity index at the prescription; here it is
    van 't Riet's conformation number with matRad's 95 %: (PTV voxels with at least 0.95 D)^2 over PTV voxels times all
    voxels with at least 0.95 D.

    Args:
        prescribed_gy: the dose prescribed, D.
        ptv: value of the planning target volume in the map.
        organs: name of each organ at risk to its value.
        map: modality of the case that holds the structures.
    """

    unit = ""
    higher_is_better = False

    def __init__(
        self,
        *,
        prescribed_gy: Gray,
        ptv: Label,
        organs: dict[str, Label] | None = None,
        map: str = "structures",  # noqa: A002 -- the option's natural name
    ) -> None:
        self.prescribed_gy, self.ptv, self.organs, self.map = prescribed_gy, ptv, dict(organs or {}), map
        self.label_maps = (map,)
        self.parts = {
            "d98": "|D98 - true D98| / true D98 of the PTV",
            "conformity": f"relative difference of the PTV's conformation number at 0.95 D, D = {prescribed_gy:g} Gy",
            "d2": "mean over at most 3 organs of the relative difference of D2",
            "mean": "mean over at most 3 organs of the relative difference of the mean dose",
        }
        self.definition = (
            f"SynthRAD2023's DVH sum: relative differences of D98 and conformation number of the PTV and of D2 and "
            f"mean of the {_ORGANS} organs with the highest (D5 + mean) / 2, D = {prescribed_gy:g} Gy"
        )

    def columns(
        self, prediction: np.ndarray, target: np.ndarray, mask: np.ndarray | None, surroundings: Surroundings
    ) -> Mapping[str, float]:
        structures = surroundings.images.get(self.map)
        counted = np.ones(target.shape, bool) if mask is None else mask
        if structures is None or not (counted & (structures == self.ptv)).any():
            return dict.fromkeys(("", *self.parts), math.nan)
        predicted, true, inside = (each[counted].astype(np.float64) for each in (prediction, target, structures))
        ptv = inside == self.ptv
        organs = [inside == value for value in self.organs.values() if (inside == value).any()]
        # The true dose alone chooses the organs: a prediction must not pick which of its errors are counted.
        organs.sort(key=lambda organ: (_least_dose(true[organ], 5) + true[organ].mean()) / 2, reverse=True)
        d2 = [_relative(_least_dose(predicted[one], 2), _least_dose(true[one], 2)) for one in organs[:_ORGANS]]
        means = [_relative(predicted[one].mean(), true[one].mean()) for one in organs[:_ORGANS]]
        terms = {
            "d98": _relative(_least_dose(predicted[ptv], 98), _least_dose(true[ptv], 98)),
            "conformity": _relative(self._conformation(predicted, ptv), self._conformation(true, ptv)),
            "d2": float(np.mean(d2)) if d2 else 0.0,
            "mean": float(np.mean(means)) if means else 0.0,
        }
        return {"": sum(terms.values()), **terms}

    def _conformation(self, dose: np.ndarray, ptv: np.ndarray) -> float:
        treated = dose >= _COVERED * self.prescribed_gy
        # Product of two shares: of the PTV that is treated, and of what is treated that lies in the PTV. With nothing
        # treated the second is 0 / 0; the product is then 0, since `both` is.
        both, volume, all_treated = (int(np.count_nonzero(one)) for one in (treated & ptv, ptv, treated))
        return both**2 / (volume * max(all_treated, 1))


def _least_dose(dose: np.ndarray, percent: float) -> float:
    """The dose that `percent` of the voxels get at least."""
    # D98 is near the minimum: "at least" counts from above, percentiles from below.
    return float(np.percentile(dose, 100 - percent))


def _relative(found: float, true: float) -> float:
    return float(abs(found - true) / (true + _EPS))
