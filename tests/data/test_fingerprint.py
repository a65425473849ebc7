"""A source that is unlike those of training is told from one that is like them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from medtrans.builtin.datasets.phantom import Phantom
from medtrans.builtin.transforms import Percentile, Window
from medtrans.data.fingerprint import Fingerprint
from medtrans.data.preprocessing import Preprocessing
from medtrans.errors import DataError
from medtrans.plugins.interfaces import Case
from medtrans.volume import Volume

TRAINED, HELD_OUT = 20, 60
SIZE = (20, 20, 20)


@cache
def cases() -> tuple[Case, ...]:
    return tuple(Phantom(subjects=TRAINED + HELD_OUT, size=SIZE).cases())


def image(number: int, modality: str = "t1") -> Volume:
    return cases()[number].images[modality]()


def preprocessing() -> Preprocessing:
    return Preprocessing(("t1",), ("t2",), {"t1": Percentile(), "t2": Percentile()})


@pytest.fixture(scope="module")
def known() -> Fingerprint:
    steps = preprocessing()
    return Fingerprint.of(
        (steps.prepare({"t1": image(number)}) for number in range(TRAINED)), steps.scalings, steps.source
    )


def remarks(known: Fingerprint, volume: Volume) -> list[str]:
    steps = preprocessing()
    try:
        return known.remarks(steps.prepare({"t1": volume}), steps.scalings, steps.source)
    except DataError as error:
        return list(error.faults)


def changed(volume: Volume, data: np.ndarray) -> Volume:
    return replace(volume, data=np.ascontiguousarray(data, dtype=np.float32))


SHIFTS: dict[str, Callable[[Volume], Volume]] = {
    "a thousand times brighter": lambda volume: changed(volume, volume.data * 1000),
    "inverted": lambda volume: changed(volume, volume.data.max() - volume.data),
    "coarser": lambda volume: replace(volume, affine=volume.affine @ np.diag([5.0, 5, 5, 1])),
    "empty": lambda volume: changed(volume, np.zeros(volume.shape)),
    "upside down": lambda volume: changed(volume, volume.data[:, :, ::-1]),
    "in 8 bits": lambda volume: changed(volume, np.rint(255 * volume.data / volume.data.max())),
    "noise": lambda volume: changed(volume, 500 * np.random.default_rng(0).random(volume.shape)),
}


@pytest.mark.parametrize("shift", ["another modality", *SHIFTS])
def test_a_shifted_source_is_flagged_or_refused(known: Fingerprint, shift: str) -> None:
    for number in range(TRAINED, TRAINED + 5):
        shifted = SHIFTS[shift](image(number)) if shift in SHIFTS else image(number, "ct")
        assert remarks(known, shifted), number


def test_at_most_2_percent_of_other_subjects_alarm(known: Fingerprint) -> None:
    alarms = [remarks(known, image(number)) for number in range(TRAINED, TRAINED + HELD_OUT)]
    assert sum(map(bool, alarms)) <= 0.02 * HELD_OUT, alarms


def test_a_remark_says_what_was_found_and_what_was_usual(known: Fingerprint) -> None:
    found = remarks(known, SHIFTS["coarser"](image(TRAINED)))
    assert any(remark.startswith("spacing i [mm] 50") and "in training 10" in remark for remark in found), found
    volume = image(TRAINED)
    turned = replace(volume, data=volume.data[::-1].copy(), affine=volume.affine @ np.diag([-1.0, 1, 1, 1]))
    assert remarks(known, turned) == ["axes stored as LAS, those of training as RAS"]


def test_a_fingerprint_survives_as_plain_values(known: Fingerprint) -> None:
    again = Fingerprint(json.loads(json.dumps(known.as_data())))
    shifted = SHIFTS["in 8 bits"](image(TRAINED))
    assert remarks(again, shifted) == remarks(known, shifted) != []


def test_few_and_equal_training_cases_are_not_believed_too_much_and_none_gives_no_fingerprint() -> None:
    steps = preprocessing()
    alone = Fingerprint.of([steps.prepare({"t1": image(0)})], steps.scalings, steps.source)
    assert remarks(alone, image(1)) == []
    assert remarks(alone, SHIFTS["coarser"](image(1)))
    assert Fingerprint.of([], steps.scalings, steps.source) is None


def test_a_fixed_scaling_is_looked_at_in_its_own_unit() -> None:
    steps = Preprocessing(("ct",), ("t2",), {"ct": Window(), "t2": Percentile()})
    known = Fingerprint.of(
        [steps.prepare({"ct": image(number, "ct")}) for number in range(6)], steps.scalings, steps.source
    )
    brighter = changed(image(7, "ct"), image(7, "ct").data + 1000)
    found = known.remarks(steps.prepare({"ct": brighter}), steps.scalings, steps.source)
    assert any("ct percentile" in one for one in found), found
