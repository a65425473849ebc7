"""The lesion test tells translators that lose or invent structures from those that keep what their source shows."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

import medtrans
from medtrans.evaluation.lesions import (
    CONTRASTS,
    RADII,
    Insertion,
    Removal,
    insertions,
    lesion_summary,
    removals,
)

pytest_plugins = ["tests.helpers.trained_runs"]

SHAPE = (40, 40, 40)


def anatomy(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A smooth source `(1, i, j, k)` in an ellipsoid, and where it is."""
    rng = np.random.default_rng(seed)
    place = [np.linspace(-1, 1, side) for side in SHAPE]
    inside = place[0][:, None, None] ** 2 + place[1][:, None] ** 2 + place[2] ** 2 < 0.9
    field = ndimage.gaussian_filter(rng.random(SHAPE), 4)
    field = 0.2 + 0.6 * (field - field.min()) / np.ptp(field)
    return np.where(inside, field, 0)[None].astype(np.float32), inside


def identity(source: np.ndarray) -> np.ndarray:
    return source


def inverse(source: np.ndarray) -> np.ndarray:
    """Another contrast of the same anatomy."""
    return 1 - source


def outcome(translate: Any, map_intensities: Any = identity) -> dict[str, Any]:
    found = []
    for seed in range(2):
        source, inside = anatomy(seed)
        rng = np.random.default_rng(seed)
        found += insertions(source, translate(source), inside, translate, map_intensities, rng=rng)
    return lesion_summary(found, [])


@pytest.mark.parametrize("translate", [identity, inverse])
def test_a_translator_that_keeps_what_is_there_scores_100_percent(translate: Any) -> None:
    found = outcome(translate, translate)
    assert (found["preserved_percent"], found["elsewhere_percent"], found["flagged"]) == (100, 0, False)
    assert set(found["preserved_by_contrast"].values()) == {100.0}


def test_a_translator_that_erases_small_structures_is_flagged() -> None:
    found = outcome(lambda source: ndimage.gaussian_filter(source, (0, 5, 5, 5)))
    assert found["preserved_percent"] < 80
    assert found["flagged"]


def test_a_translator_that_shows_them_elsewhere_too_is_flagged() -> None:
    found = outcome(lambda source: 0.4 * source + 0.6 * source[:, ::-1])  # on the other side too
    assert found["elsewhere_percent"] > 20
    assert found["flagged"]


def test_spheres_of_every_contrast_lie_inside_apart_from_each_other_and_can_be_drawn_again() -> None:
    source, inside = anatomy()
    given: list[np.ndarray] = []

    def watched(changed: np.ndarray) -> np.ndarray:
        given.append(changed)
        return changed

    def draw() -> list[Insertion]:
        rng = np.random.default_rng(3)
        return list(insertions(source, source, inside, watched, identity, rng=rng, spheres=4))

    first = draw()
    assert first == draw()
    assert {one.contrast for one in first} == set(CONTRASTS)
    assert {one.radius for one in first} <= set(RADII)
    assert all(one.source_change == pytest.approx(one.change) for one in first)
    for changed, contrast in zip(given[:3], CONTRASTS, strict=True):
        touched = (changed != source)[0]
        assert not (touched & ~inside).any()
        _, spheres = ndimage.label(touched)
        assert spheres >= sum(one.contrast == contrast for one in first) > 0


def test_a_sphere_whose_intensities_mean_nothing_to_the_target_is_not_asked_for() -> None:
    found = outcome(np.zeros_like, np.zeros_like)
    assert (found["inserted"], found["preserved_percent"], found["flagged"]) == (0, None, False)


def with_lesions() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    source, inside = anatomy()
    lesions = np.zeros(SHAPE, dtype=bool)
    lesions[11:17, 11:17, 11:17] = lesions[21:27, 23:29, 19:25] = True
    return np.where(lesions, 0.95, source * 0.6).astype(np.float32), lesions, inside


def removed(value: float | None) -> dict[str, Any]:
    """The outcome for a translator that keeps its source, or shows a value at lesions whether they are there or not."""
    source, lesions, inside = with_lesions()

    def translate(changed: np.ndarray) -> np.ndarray:
        return changed if value is None else np.where(lesions, value, changed).astype(np.float32)

    return lesion_summary([], list(removals(source, translate(source), source, lesions, inside, translate)))


def test_lesions_that_leave_the_source_leave_an_honest_prediction() -> None:
    found = removed(None)
    assert (found["removed"], found["shown_percent"], found["invented_percent"]) == (2, 100, 0)
    assert not found["flagged"]


def test_lesions_that_are_predicted_whether_or_not_they_are_there_are_invented() -> None:
    found = removed(0.95)
    assert (found["invented_percent"], found["flagged"]) == (100, True)


def test_lesions_that_the_target_shows_and_the_prediction_does_not_are_missed() -> None:
    found = removed(0.3)
    assert (found["shown_percent"], found["flagged"]) == (0, True)


def test_what_neither_image_shows_is_not_judged() -> None:
    nothing = Removal(target=0.001, before=0.001, after=0.0, visible=0.05)
    assert (nothing.shown, nothing.invented) == (None, None)
    assert lesion_summary([], [nothing])["invented_percent"] is None


def test_a_run_whose_network_loses_spheres_warns(done: medtrans.RunFolder) -> None:
    found = json.loads(done.faithfulness.read_text())["lesions"]
    assert found["inserted"] > 0
    assert found["preserved_percent"] < 80
    assert any(one.startswith("lesion test: ") for one in json.loads(done.summary.read_text())["warnings"])
