"""Padding counts as air, and a CT that is not in Hounsfield units is told, with what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import medtrans
from medtrans.data.checks.intensities import hounsfield_doubt, settled
from medtrans.evaluation.folders import Scoring, evaluate_folders
from medtrans.volume import Volume, write

WINDOW = medtrans.component("transform", "window").factory(range=(-1024.0, 3000.0))
MINMAX = medtrans.component("transform", "minmax").factory()
ZSCORE = medtrans.component("transform", "zscore").factory()
LABELS = medtrans.component("transform", "labels").factory(classes={"body": (1,)})

PELVIS = medtrans.component("dataset", "phantom").factory(anatomy="pelvis", subjects=2, size=(32, 32, 32), seed=5)
HEAD = medtrans.component("dataset", "phantom").factory(subjects=2, size=(32, 32, 32), seed=5)
CTS = {f"{place} {case.case}": case.images["ct"]().data for place, dataset in (("pelvis", PELVIS), ("head", HEAD))
       for case in dataset.cases()}  # fmt: skip
CT = CTS["pelvis pelvis_001"] if "pelvis pelvis_001" in CTS else next(iter(CTS.values()))
CORNERS = np.hypot(*np.meshgrid(np.arange(32) - 15.5, np.arange(32) - 15.5, indexing="ij"))[..., None] > 15.5


def volume(data: np.ndarray) -> Volume:
    return Volume(data, np.diag([2.0, 2.0, 2.0, 1.0]))


@pytest.mark.parametrize("data", CTS.values(), ids=CTS)
def test_a_ct_in_hounsfield_units_stays_as_it_is_without_a_word(data: np.ndarray) -> None:
    image = volume(data)
    assert settled(image, WINDOW) is image


@pytest.mark.parametrize("cut", [slice(10, 22), slice(None)])
def test_nor_is_anything_said_of_tissue_alone_or_of_zero_outside_a_mask(cut: slice) -> None:
    masked = np.where(CT < -850, 0, CT)
    assert hounsfield_doubt(masked[cut, cut, cut]) is None


@pytest.mark.parametrize("data", CTS.values(), ids=CTS)
@pytest.mark.parametrize(
    ("altered", "told"),
    [
        (lambda ct: ct + 1000, "1000 above"),
        (lambda ct: (ct + 1024).clip(0, 4095), "10"),
        (lambda ct: ct + 200, "above HU"),
        (lambda ct: ct - 200, "below HU"),
        (lambda ct: ct / 1000, "divided by 1000"),
        (lambda ct: 0.19 * (1 + ct / 1000), "attenuation"),
        (lambda ct: ct.astype(np.int16).astype(np.uint16), "65536"),
    ],
    ids=["+1000", "12 bits unsigned", "+200", "-200", "thousandths", "attenuation", "wrapped"],
)
def test_a_ct_in_something_else_is_told_with_the_remedy(
    data: np.ndarray, altered: Callable[[np.ndarray], np.ndarray], told: str
) -> None:
    (note,) = settled(volume(altered(data)), WINDOW).notes
    assert told in note


@pytest.mark.parametrize("padding", [-2000, -3024, -32768, 0])
def test_padding_in_a_ct_counts_as_air(padding: int) -> None:
    """Also 0, where the corners of a CT that knows air hold nothing else."""
    padded = settled(volume(np.where(CORNERS, padding, np.maximum(np.rint(CT), -1024)).astype(np.int16)), WINDOW)
    (note,) = padded.notes
    assert note.startswith(f"{padding} is padding")
    assert padded.data.dtype == np.int16
    assert set(np.unique(padded.data[np.broadcast_to(CORNERS, CT.shape)])) == {padded.data[~CORNERS[..., 0]].min()}


def test_two_paddings_count_as_air_together() -> None:
    data = np.where(CORNERS, -2000, np.maximum(CT, -1024))
    data[:, :, :4] = -3024
    padded = settled(volume(data), WINDOW)
    assert padded.data.min() == -1024
    assert len(padded.notes) == 2


@pytest.mark.parametrize("scaling", [MINMAX, ZSCORE], ids=["minmax", "zscore"])
def test_a_far_value_is_no_tissue_to_a_scaling_that_is_fitted(scaling: medtrans.Preprocess) -> None:
    mr = HEAD.cases()[0].images["t1"]().data
    bare, padded = volume(np.where(CORNERS, mr.min(), mr)), volume(np.where(CORNERS, np.float32(-32768), mr))
    found = settled(padded, scaling)
    np.testing.assert_allclose(found.data, bare.data)
    assert scaling.fit(found.data, None) == pytest.approx(scaling.fit(bare.data, None))


@pytest.mark.parametrize("background", [0.0, -1.0])
def test_a_background_is_no_padding(background: float) -> None:
    stripped = np.where(CORNERS, background, np.random.default_rng(0).uniform(0.5, 3, CT.shape)).astype(np.float32)
    assert settled(volume(stripped), MINMAX).notes == ()


def test_a_label_map_is_left_alone() -> None:
    labels = volume(np.where(CORNERS, -100, 1).astype(np.int16))
    assert settled(labels, LABELS) is labels


def test_scores_in_hounsfield_units_say_that_images_are_in_something_else(tmp_path: Path) -> None:
    for name, data in (("prediction", CT), ("target", CT + 1024)):
        (tmp_path / name).mkdir()
        write(volume(data.astype(np.float32)), tmp_path / name / "one.nii")
    scoring = Scoring(("mae",), limits=(-1024, 3000), unit="HU")
    summary = evaluate_folders(tmp_path / "prediction", tmp_path / "target", scoring=scoring).summary
    assert [warning for warning in summary["warnings"] if warning.startswith("one, target: ") and "above HU" in warning]
    assert not [warning for warning in summary["warnings"] if warning.startswith("one, prediction")]
