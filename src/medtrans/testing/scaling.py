"""The contract of intensity scalings, rule by rule."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from medtrans.errors import MedtransError
from medtrans.plugins.interfaces import Preprocess
from medtrans.testing.rules import Broken, NotTried, Rule, leaving_states
from medtrans.testing.transform_setup import TransformTrial
from medtrans.testing.trial import SHARED_RULES

__all__ = ["SCALING_RULES"]

_SHAPE = (12, 14, 10)
_SLACK = 2e-3  # of the range, for the way there and back in float32
_MORE = 1e-3  # share of voxels that a run lets a scaling clip beyond what it says


def image(trial: TransformTrial, seed: int = 0, dtype: Any = np.float32) -> np.ndarray:
    """An image with a dark background and a bright body, in the intensities of the trial."""
    low, high = trial.between
    rng = np.random.default_rng(seed)
    body = rng.beta(2.0, 2.0, _SHAPE)
    body[:2] = 0.02 * rng.random((2, *_SHAPE[1:]))
    return (low + (high - low) * (0.02 + 0.9 * body)).astype(dtype)


def ready(trial: TransformTrial) -> Preprocess:
    """The scaling with what it learns from two training images."""
    scaling = trial.scaling()
    scaling.learned = scaling.learn(iter([(image(trial, 1), None), (image(trial, 2), None)]))
    return scaling


def says_what_its_numbers_mean(trial: TransformTrial) -> None:
    """Fitted or fixed, and then in which unit and range."""
    scaling = trial.scaling()
    if not isinstance(getattr(scaling, "fitted", None), bool):
        raise Broken("fitted: expected True where each image is scaled by its own numbers, else False")
    if not isinstance(scaling.unit, str):
        raise Broken(f"unit: found {scaling.unit!r}, expected text")
    if not (isinstance(scaling.data_range, float | int) and scaling.data_range > 0):
        raise Broken(f"data_range: found {scaling.data_range!r}, expected a width above 0")
    if not 0 <= scaling.clips < 1:
        raise Broken(f"clips: found {scaling.clips!r}, expected a share of voxels in [0, 1)")


def gives_float32_in_0_to_1(trial: TransformTrial) -> None:
    """For volumes of any number type, with and without a mask, of one shape."""
    scaling = ready(trial)
    mask = np.zeros(_SHAPE, bool)
    mask[3:9, 3:11, 2:8] = True
    for dtype in (np.float32, np.float64, np.int16):
        for inside in (None, mask):
            volume = np.asfortranarray(image(trial, dtype=dtype))
            scaled = scaling.apply(volume, scaling.fit(volume, inside))
            if scaled.shape != volume.shape or scaled.dtype != np.float32:
                raise Broken(
                    f"a {volume.dtype} volume of shape {volume.shape} becomes {scaled.dtype} of shape "
                    f"{scaled.shape}, expected float32 of the same"
                )
            if not (np.isfinite(scaled).all() and scaled.min() >= 0 and scaled.max() <= 1):
                raise Broken(f"it gives values from {scaled.min():g} to {scaled.max():g}, expected [0, 1]")


def fits_plain_numbers(trial: TransformTrial) -> None:
    """They are written as JSON beside every prediction."""
    numbers = ready(trial).fit(image(trial), None)
    if not isinstance(numbers, dict) or not all(type(value) in (float, int) for value in numbers.values()):
        kinds = {name: type(value).__name__ for name, value in dict(numbers).items()}
        raise Broken(f"fit gives {kinds}, expected plain numbers by name; write float(...)")
    learned = dict(ready(trial).learned)
    for what in (numbers, learned):
        if json.loads(json.dumps(what)) != what:
            raise Broken(f"{what!r} does not survive JSON; give finite numbers, in lists")


def can_be_undone(trial: TransformTrial) -> None:
    """There and back, except for what it says that it clips."""
    scaling, volume = ready(trial), image(trial)
    numbers = scaling.fit(volume, None)
    back = scaling.invert(scaling.apply(volume, numbers), numbers)
    if back.shape != volume.shape:
        raise Broken(f"invert gives shape {back.shape} for {volume.shape}")
    width = float(volume.max() - volume.min())
    off = np.abs(back.astype(np.float64) - volume) > _SLACK * width
    if off.mean() > scaling.clips + _MORE:
        raise Broken(f"{off.mean():.2%} of the voxels do not come back, and `clips` says {scaling.clips:.2%}")


def keeps_the_order_of_intensities(trial: TransformTrial) -> None:
    """Brighter stays brighter, or as bright."""
    scaling, volume = ready(trial), image(trial)
    ordered = np.sort(volume.ravel())
    scaled = scaling.apply(ordered.reshape(_SHAPE), scaling.fit(volume, None)).ravel()
    if (np.diff(scaled) < -1e-6).any():
        raise Broken("a brighter voxel becomes darker than another; metrics and pictures rely on the order")


def treats_all_images_alike_if_fixed(trial: TransformTrial) -> None:
    """A fixed scaling has the same numbers for each image, and the range that it states."""
    scaling = ready(trial)
    if scaling.fitted:
        raise NotTried("it is fitted to each image")
    one, other = scaling.fit(image(trial, 0), None), scaling.fit(image(trial, 1) * 0.5, None)
    if one != other:
        raise Broken(f"it is not `fitted` but gives {one} for one image and {other} for another")
    ends = scaling.invert(np.array([0.0, 1.0], np.float32).reshape(2, 1, 1), one).ravel()
    if not math.isclose(float(ends[1] - ends[0]), scaling.data_range, rel_tol=1e-4):
        raise Broken(
            f"[0, 1] is {float(ends[1] - ends[0]):g} wide in native intensities, `data_range` says "
            f"{scaling.data_range:g}"
        )


def stands_constant_images(trial: TransformTrial) -> None:
    """A message that says what is wrong, or numbers that are finite."""
    low, high = trial.between
    for value in (low, (low + high) / 2, high):
        volume = np.full(_SHAPE, value, np.float32)
        scaling = ready(trial)
        try:
            scaled = scaling.apply(volume, scaling.fit(volume, None))
        except MedtransError:
            continue
        if not np.isfinite(scaled).all():
            raise Broken(f"an image of {value:g} everywhere becomes not finite; raise medtrans.DataError")


def leaves_all_as_it_was(trial: TransformTrial) -> None:
    """Volumes and random states, and it does the same again."""
    volume, found = image(trial), []
    kept = volume.copy()
    with leaving_states():
        for _ in range(2):
            scaling = ready(trial)
            numbers = scaling.fit(volume, None)
            scaled = scaling.apply(volume, numbers)
            found.append(scaled.copy())
            scaling.invert(scaled, numbers)
            if not np.array_equal(scaled, found[-1]):
                raise Broken("invert changes the volume it is given")
    if not np.array_equal(volume, kept):
        raise Broken("fit or apply changes the volume it is given")
    if not np.array_equal(found[0], found[1]):
        raise Broken("the same image is scaled differently the second time")


def learns_in_one_pass(trial: TransformTrial) -> None:
    """Training images are read as they are asked for, one after the other."""
    asked = []

    def samples() -> Iterator[tuple[np.ndarray, None]]:
        for seed in range(3):
            asked.append(seed)
            yield image(trial, seed), None

    learned = trial.scaling().learn(samples())
    if learned and asked != [0, 1, 2]:
        raise Broken(f"learn looked at training images {asked} of 3; look at each, once")


SCALING_RULES: tuple[Rule[TransformTrial], ...] = (
    *SHARED_RULES,
    Rule("says what its numbers mean", says_what_its_numbers_mean),
    Rule("gives float32 in [0, 1]", gives_float32_in_0_to_1),
    Rule("fits plain numbers", fits_plain_numbers),
    Rule("learns in one pass", learns_in_one_pass),
    Rule("can be undone", can_be_undone),
    Rule("keeps the order of intensities", keeps_the_order_of_intensities),
    Rule("treats all images alike if fixed", treats_all_images_alike_if_fixed),
    Rule("stands constant images", stands_constant_images),
    Rule("leaves all as it was", leaves_all_as_it_was),
)
