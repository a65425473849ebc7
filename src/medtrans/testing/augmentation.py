"""The contract of augmentations, rule by rule."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from medtrans.testing.rules import Broken, NotTried, Rule, leaving_states
from medtrans.testing.samples import PATTERNS, Sides, pattern
from medtrans.testing.transform_setup import TransformTrial
from medtrans.testing.trial import SHARED_RULES

__all__ = ["AUGMENTATION_RULES"]

_SIDES = (16, 18, 20)
_DRAWS = 5


def patches(
    sides: Sides = _SIDES, *, channels: int = 1, fill: str = "noise", masked: bool = True, only_source: bool = False
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
    corner = torch.zeros(1, *_SIDES)
    corner[:, : _SIDES[0] // 2] = 1
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
