"""Errors by label and by HU, and the differences of two doses: closed forms, absent classes, masks."""

from __future__ import annotations

import math

import numpy as np
import pytest

from medtrans.builtin.metrics.dose import DoseDVH, DoseMAE
from medtrans.builtin.metrics.regions import MAEByHU, MAEByLabel
from medtrans.errors import ConfigError
from medtrans.plugins.interfaces import Surroundings

SPACING_MM = (1.0, 1.0, 1.0)
SHAPE = (8, 8, 8)


def test_errors_are_told_by_label_and_absent_labels_are_undefined() -> None:
    target = np.zeros(SHAPE, np.float32)
    labels = np.zeros(SHAPE, np.uint8)
    labels[:4], labels[4:6] = 4, 5
    prediction = np.where(labels == 4, 10.0, np.where(labels == 5, 30.0, 0.0)).astype(np.float32)
    metric = MAEByLabel(labels={"bone": (4, 5), "marrow": 5, "lesion": 17})
    around = Surroundings({"labels": labels})
    found = metric.scores(prediction, target, None, SPACING_MM, around)
    assert found["bone"] == pytest.approx((4 * 10 + 2 * 30) / 6)
    assert found["marrow"] == 30
    assert math.isnan(found["lesion"])
    assert found[""] == pytest.approx((found["bone"] + found["marrow"]) / 2)
    mask = labels == 4
    assert metric.scores(prediction, target, mask, SPACING_MM, around)["bone"] == 10
    assert set(found) == {"", *metric.parts}
    assert math.isnan(metric(prediction, target, None, SPACING_MM))


def test_errors_are_told_by_hu_of_the_target_or_of_a_ct() -> None:
    target = np.zeros(SHAPE, np.float32)
    target[:2], target[6:] = -1000, 1000
    prediction = target + np.where(target < -200, 5, np.where(target > 250, 50, 20)).astype(np.float32)
    found = MAEByHU().scores(prediction, target, None, SPACING_MM, Surroundings())
    assert found == {"": 25.0, "air": 5.0, "soft_tissue": 20.0, "bone": 50.0}
    assert MAEByHU()(prediction, target, None, SPACING_MM) == 25
    everything = MAEByHU(air_below=-2000, bone_above=2000).scores(prediction, target, None, SPACING_MM, Surroundings())
    assert math.isnan(everything["air"])
    of_ct = MAEByHU(ct="ct")
    around = Surroundings({"ct": np.full(SHAPE, 700.0)})
    assert of_ct.images == ("ct",)
    assert of_ct.scores(prediction, target, None, SPACING_MM, around)["bone"] == pytest.approx(23.75)
    assert all(map(math.isnan, of_ct.scores(prediction, target, None, SPACING_MM, Surroundings()).values()))


def test_classes_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ConfigError, match="name at least one class"):
        MAEByLabel(labels={})
    with pytest.raises(ConfigError, match="air_below 300 is above bone_above 250"):
        MAEByHU(air_below=300)


def test_the_dose_error_counts_where_the_dose_is_high() -> None:
    target = np.full(SHAPE, 0.5)
    target[:4] = 2.0
    prediction = target.copy()
    prediction[:4] += 0.1
    prediction[4:] = 9.0
    assert DoseMAE(prescribed_gy=2.0)(prediction, target, None, SPACING_MM) == pytest.approx(0.05)
    assert math.isnan(DoseMAE(prescribed_gy=20.0)(prediction, target, None, SPACING_MM))
    assert DoseMAE(prescribed_gy=2.0)(target, target, None, SPACING_MM) == 0


def dose_case() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    structures = np.zeros((12, 12, 12), np.uint8)
    structures[:4] = 1
    for organ, first in enumerate((4, 6, 8, 10), start=2):
        structures[first : first + 2] = organ
    target = 2.0 - 0.15 * structures + 0.1 * rng.random(structures.shape)
    return target * 1.02 + 0.02 * rng.random(structures.shape), target, structures


def test_the_dvh_sum_is_that_of_its_terms_evaluated_one_by_one() -> None:
    prediction, target, structures = dose_case()
    metric = DoseDVH(prescribed_gy=1.9, ptv=1, organs={"a": 2, "b": 3, "c": 4, "d": 5})
    found = metric.scores(prediction, target, None, SPACING_MM, Surroundings({"structures": structures}))

    def least(dose: np.ndarray, percent: float) -> float:
        ordered = np.sort(dose)
        return float(np.interp(1 - percent / 100, np.linspace(0, 1, len(ordered)), ordered))

    def conformation(dose: np.ndarray) -> float:
        covered = dose >= 0.95 * 1.9
        both = (covered & (structures == 1)).sum()
        return float(both / (structures == 1).sum() * (both / covered.sum()))

    def relative(of: str) -> float:
        values = {
            "d98": [least(dose[structures == 1], 98) for dose in (prediction, target)],
            "conformity": [conformation(dose) for dose in (prediction, target)],
        }[of]
        return abs(values[0] - values[1]) / values[1]

    # The dose falls with the number, so the fourth organ is left out.
    organs = [structures == value for value in (2, 3, 4)]
    d2 = [abs(least(prediction[one], 2) / least(target[one], 2) - 1) for one in organs]
    mean = [abs(prediction[one].mean() / target[one].mean() - 1) for one in organs]
    expected = {"d98": relative("d98"), "conformity": relative("conformity"), "d2": np.mean(d2), "mean": np.mean(mean)}
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-9)
    assert found[""] == pytest.approx(sum(expected.values()))
    assert expected["conformity"] > 0


def test_equal_doses_differ_by_nothing_and_a_missing_ptv_is_undefined() -> None:
    _, target, structures = dose_case()
    around = Surroundings({"structures": structures})
    metric = DoseDVH(prescribed_gy=1.9, ptv=1)
    assert metric.scores(target, target, None, SPACING_MM, around)[""] == 0
    absent = DoseDVH(prescribed_gy=1.9, ptv=9, organs={"a": 2})
    assert all(map(math.isnan, absent.scores(target, target, None, SPACING_MM, around).values()))
    assert all(map(math.isnan, metric.scores(target, target, None, SPACING_MM, Surroundings()).values()))
