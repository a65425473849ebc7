"""The contracts of transforms: intensity scalings have one, augmentations another."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from medtrans.errors import MedtransError
from medtrans.plugins.interfaces import Augmentation, Preprocess
from medtrans.testing.rules import Broken, NotTried, Rule, Verdict, leaving_states
from medtrans.testing.trial import PATTERNS, SHARED_RULES, ComponentLike, Sides, Trial, check, pattern

__all__ = ["AUGMENTATION_RULES", "SCALING_RULES", "TransformTrial", "check_transform", "transform_rules"]

_SHAPE = (12, 14, 10)
_SLACK = 2e-3  # of the range, for the way there and back in float32
_MORE = 1e-3  # share of voxels that a run lets a scaling clip beyond what it says
_PATCH = (16, 18, 20)
_DRAWS = 5


@dataclass(frozen=True)
class TransformTrial(Trial):
    """A transform under trial, with what `check_transform` sets."""

    kind: ClassVar[str] = "transform"

    between: tuple[float, float] = (0.0, 1000.0)

    def scaling(self) -> Preprocess:
        """The transform as an intensity scaling."""
        made = self.make()
        if not isinstance(made, Preprocess):
            raise Broken(f"it makes {type(made).__name__}, expected a subclass of medtrans.Preprocess")
        return made

    def augmentation(self) -> Augmentation:
        """The transform as an augmentation."""
        made = self.make()
        if not isinstance(made, Augmentation):
            raise Broken(f"it makes {type(made).__name__}, expected a subclass of medtrans.Augmentation")
        return made


def image(trial: TransformTrial, seed: int = 0, dtype: Any = np.float32) -> np.ndarray:
    """An image with a dark background and a bright body, in the intensities of the trial."""
    low, high = trial.between
    rng = np.random.default_rng(seed)
    body = rng.beta(2.0, 2.0, _SHAPE)
    body[:2] = 0.02 * rng.random((2, *_SHAPE[1:]))
    return (low + (high - low) * (0.02 + 0.9 * body)).astype(dtype)


def fitted(trial: TransformTrial) -> Preprocess:
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
    scaling = fitted(trial)
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
    numbers = fitted(trial).fit(image(trial), None)
    if not isinstance(numbers, dict) or not all(type(value) in (float, int) for value in numbers.values()):
        kinds = {name: type(value).__name__ for name, value in dict(numbers).items()}
        raise Broken(f"fit gives {kinds}, expected plain numbers by name; write float(...)")
    learned = dict(fitted(trial).learned)
    for what in (numbers, learned):
        if json.loads(json.dumps(what)) != what:
            raise Broken(f"{what!r} does not survive JSON; give finite numbers, in lists")


def can_be_undone(trial: TransformTrial) -> None:
    """There and back, except for what it says that it clips."""
    scaling, volume = fitted(trial), image(trial)
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
    scaling, volume = fitted(trial), image(trial)
    ordered = np.sort(volume.ravel())
    scaled = scaling.apply(ordered.reshape(_SHAPE), scaling.fit(volume, None)).ravel()
    if (np.diff(scaled) < -1e-6).any():
        raise Broken("a brighter voxel becomes darker than another; metrics and pictures rely on the order")


def treats_all_images_alike_if_fixed(trial: TransformTrial) -> None:
    """A fixed scaling has the same numbers for each image, and the range that it states."""
    scaling = fitted(trial)
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
        scaling = fitted(trial)
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
            scaling = fitted(trial)
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


def patches(
    sides: Sides = _PATCH, *, channels: int = 1, fill: str = "noise", masked: bool = True, only_source: bool = False
) -> dict[str, Tensor]:
    """Patches `(c, i, j, k)` in [0, 1] as a sample has them."""
    found = {"source": pattern(fill, 1, channels, sides, seed=1)[0]}
    if not only_source:
        found["target"] = pattern(fill, 1, channels, sides, seed=2)[0]
        if masked:
            found["mask"] = (pattern("noise", 1, 1, sides, seed=3)[0] > 0.5).float()
    return found


def changed(trial: TransformTrial, given: dict[str, Tensor], seed: int = 0) -> dict[str, Tensor]:
    """The patches after one draw; an intensity transform is given the source alone, as in training."""
    augmentation = trial.augmentation()
    shown = {"source": given["source"]} if augmentation.intensity else given
    return dict(augmentation(shown, np.random.default_rng(seed)))


def keeps_the_form_of_patches(trial: TransformTrial) -> None:
    """The same names, shapes and type, finite and in [0, 1], whatever comes."""
    tried = [(patches(), 3), (patches(channels=2), 1), (patches(masked=False), 1), (patches((12, 16, 9)), 1)]
    for given, seeds in tried + [(patches(fill=fill), 1) for fill in PATTERNS]:
        for seed in range(seeds):
            found = changed(trial, given, seed)
            shown = ["source"] if trial.augmentation().intensity else list(given)
            if set(found) != set(shown):
                raise Broken(f"it was given {', '.join(shown)} and gives {', '.join(found) or 'nothing'}")
            for name, patch in found.items():
                if not isinstance(patch, Tensor) or patch.shape != given[name].shape or patch.dtype != torch.float32:
                    what = f"{patch.dtype} {tuple(patch.shape)}" if isinstance(patch, Tensor) else type(patch).__name__
                    raise Broken(f"{name} became {what}, expected torch.float32 {tuple(given[name].shape)}")
                if not bool(torch.isfinite(patch).all()) or float(patch.min()) < 0 or float(patch.max()) > 1:
                    raise Broken(
                        f"{name} leaves [0, 1]: from {float(patch.min()):g} to {float(patch.max()):g}; clip it"
                    )


def follows_its_generator(trial: TransformTrial) -> None:
    """One seed, one result, whatever the global states are; several seeds, several results."""
    torch.manual_seed(1)
    first = changed(trial, patches(), 4)
    torch.manual_seed(2)
    second = changed(trial, patches(), 4)
    if any(not torch.equal(first[name], second[name]) for name in first):
        raise Broken("one `rng` gives two results; draw from `rng` only")
    results = [changed(trial, patches(), seed)["source"] for seed in range(_DRAWS)]
    if all(torch.equal(results[0], other) for other in results[1:]):
        raise Broken(f"{_DRAWS} seeds give one result; draw from `rng`, and mind options that switch it off")


def leaves_random_states_alone(trial: TransformTrial) -> None:
    """Training is exact only while nothing else draws."""
    with leaving_states(advice="draw from `rng`"):
        changed(trial, patches())


def leaves_its_input_alone(trial: TransformTrial) -> None:
    """Patches are views of cached volumes."""
    given = patches()
    kept = {name: patch.clone() for name, patch in given.items()}
    for seed in range(3):
        changed(trial, given, seed)
    if any(not torch.equal(given[name], kept[name]) for name in kept):
        raise Broken("it changes the patches it is given in place, which are views of cached volumes")


def keeps_source_and_target_together(trial: TransformTrial) -> None:
    """A geometric transform moves source, target and mask alike."""
    if trial.augmentation().intensity:
        raise NotTried("it touches the source only")
    given = patches()
    given["target"] = given["source"].clone()
    for seed in range(_DRAWS):
        found = changed(trial, given, seed)
        if not torch.allclose(found["source"], found["target"], atol=1e-4):
            raise Broken(
                "source and target, given equal, come back different; draw once for all, or say `intensity = True`"
            )
    corner = torch.zeros(1, *_PATCH)
    corner[:, : _PATCH[0] // 2] = 1
    for seed in range(_DRAWS):
        found = changed(trial, {"source": corner, "target": corner.clone(), "mask": corner.clone()}, seed)
        if float((found["mask"] - found["source"].round()).abs().mean()) > 0.1:
            raise Broken("the mask does not move with the source")


def keeps_the_mask_a_mask(trial: TransformTrial) -> None:
    """Of 0 and 1."""
    if trial.augmentation().intensity:
        raise NotTried("it touches the source only")
    for seed in range(_DRAWS):
        mask = changed(trial, patches(), seed)["mask"]
        if not bool(((mask == 0) | (mask == 1)).all()):
            raise Broken("the mask holds other values than 0 and 1; interpolate it by nearest neighbour")


AUGMENTATION_RULES: tuple[Rule[TransformTrial], ...] = (
    *SHARED_RULES,
    Rule("keeps the form of patches", keeps_the_form_of_patches),
    Rule("follows its generator", follows_its_generator),
    Rule("leaves global random states alone", leaves_random_states_alone),
    Rule("leaves its input as it was", leaves_its_input_alone),
    Rule("keeps source and target together", keeps_source_and_target_together),
    Rule("keeps the mask a mask", keeps_the_mask_a_mask),
)


def transform_rules(trial: TransformTrial) -> tuple[Rule[TransformTrial], ...]:
    """The rules of its contract."""
    factory = trial.component.load()
    return AUGMENTATION_RULES if isinstance(factory, type) and issubclass(factory, Augmentation) else SCALING_RULES


def check_transform(
    component: ComponentLike,
    *,
    options: Mapping[str, Any] | None = None,
    between: tuple[float, float] | None = None,
    excused: Mapping[str, str] | None = None,
) -> tuple[Verdict, ...]:
    """Try an intensity scaling or an augmentation against its contract and return a verdict on each rule.

    Settings left out come from its own `trial`.

    Args:
        component: a `Component`, the class itself, or a name as a config writes it.
        options: as a config gives them.
        between: for a scaling, two native intensities that images of its kind lie between; 0 and 1000 if not given.
        excused: rules that need not hold, each with the reason.

    Raises:
        ConformanceError: lists every rule that is broken, with what to do.
        ConfigError: there is no such component, setting or rule.
    """
    given = {"options": options, "between": between, "excused": excused}
    return check(TransformTrial, transform_rules, component, given)
