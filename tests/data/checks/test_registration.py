"""How well a pair is registered: a shift is measured in mm, and a case that stands out is flagged by `check`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

import medtrans
from medtrans.data.checks.registration import Registration, outliers, registration
from medtrans.volume import Volume, read, write
from tests.helpers.pairs import config_of, contrasts, write_pairs

SIDE = 36


def moved(volume: Volume, by_mm: tuple[float, float, float]) -> Volume:
    """The image where it would lie if the subject had moved so."""
    affine = volume.affine.copy()
    affine[:3, 3] += by_mm
    return Volume(volume.data, affine)


@pytest.mark.parametrize("by_mm", [(0.0, 0.0, 0.0), (0.0, -4.5, 0.0), (1.0, 2.0, -5.0)])
def test_a_shift_is_measured_to_half_a_millimetre(by_mm: tuple[float, float, float]) -> None:
    pair = contrasts(1, SIDE)
    found = registration(pair["t1"], moved(pair["t2"], by_mm))
    np.testing.assert_allclose(found.shift_mm, by_mm, atol=0.5)
    assert found.corners_mm == pytest.approx(np.linalg.norm(by_mm), abs=1e-6)


def test_the_order_voxels_are_stored_in_does_not_matter() -> None:
    pair = contrasts(2, SIDE)
    turned = pair["t2"].affine @ np.array([[0, -1, 0, SIDE - 1], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    stored = Volume(np.ascontiguousarray(np.flip(pair["t2"].data.transpose(1, 0, 2), 1)), turned)
    other = registration(pair["t1"], stored)
    assert other.shift_mm is not None
    assert other.corners_mm == pytest.approx(0, abs=1e-6)
    assert other.overlap > 0.9


def test_images_that_have_nothing_in_common_are_said_to_be_so() -> None:
    rng = np.random.default_rng(0)
    noise = Volume(rng.standard_normal((SIDE,) * 3).astype(np.float32), contrasts(1, SIDE)["t1"].affine)
    found = registration(contrasts(1, SIDE)["t1"], noise)
    assert (found.shift_mm, bool(found.note)) == (None, True)
    empty = Volume(np.zeros((SIDE,) * 3, np.int16), noise.affine)
    assert registration(empty, noise).shift_mm is None


def test_foregrounds_are_compared() -> None:
    pair = contrasts(3, SIDE)
    half = pair["t2"].data.copy()
    half[: SIDE // 2] = 0
    assert registration(pair["t1"], pair["t2"]).overlap > 0.95
    assert 0.5 < registration(pair["t1"], Volume(half, pair["t2"].affine)).overlap < 0.8


def test_what_stands_out_depends_on_the_cohort() -> None:
    def measured(shift: float) -> Registration:
        return Registration(0.0, 1.0, (shift, 0.0, 0.0), 1.0)

    quiet = {number: measured(0.1 * (number % 3)) for number in range(1, 20)}
    assert list(outliers({**quiet, 20: measured(3.0)})) == [20]
    assert outliers(quiet) == {}
    spread = {number: measured(number % 7) for number in range(1, 20)}
    assert 20 not in outliers({**spread, 20: measured(3.0)})
    few = {1: measured(0.2), 2: measured(3.0)}
    assert list(outliers(few)) == [2]


def test_check_flags_the_one_case_of_twenty_that_is_3_mm_off(tmp_path: Path) -> None:
    root = write_pairs(tmp_path / "data", 20, SIDE)
    wrong = root / "s13" / "t2.nii.gz"
    image = read(wrong)
    write(moved(image, (0.0, 3.0, 0.0)), wrong)
    report = medtrans.check(config_of(root, tmp_path / "run"))
    flagged = {case.case: [one.text for one in case.warnings] for case in report.cases if case.warnings}
    assert list(flagged) == ["s13"]
    assert any(shift in flagged["s13"][0] for shift in ("3.", "2.9"))
    assert "viewer" in flagged["s13"][0]  # what to do next
    assert report.ready
    assert all(case.registrations["t2"].shift_mm is not None for case in report.cases)


def test_a_rotation_shows_as_less_overlap_or_shift() -> None:
    pair = contrasts(4, SIDE)
    turned = ndimage.rotate(pair["t2"].data.astype(np.float32), 25, axes=(0, 1), reshape=False, order=1)
    straight = registration(pair["t1"], pair["t2"])
    askew = registration(pair["t1"], Volume(turned, pair["t2"].affine))
    assert straight.shift_mm is not None
    assert askew.shift_mm is None or np.linalg.norm(askew.shift_mm) > np.linalg.norm(straight.shift_mm)
