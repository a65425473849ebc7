"""The kit finds each rule that a scaling or an augmentation breaks, and nothing else."""

from __future__ import annotations

import random
from typing import ClassVar

import numpy as np
import torch

from medtrans import Augmentation, Preprocess
from medtrans.testing.transform import AUGMENTATION_RULES, SCALING_RULES
from medtrans.testing.trial import SHARED_RULES
from tests.testing.broken import Breaks, after, altered, contract


class Sound(Preprocess):
    """From the smallest to the largest value."""

    fitted: ClassVar[bool] = True

    def fit(self, volume, mask):
        low, high = float(volume.min()), float(volume.max())
        return {"low": low, "width": max(high - low, 1.0)}

    def apply(self, volume, numbers):
        scaled = (volume.astype(np.float64) - numbers["low"]) / numbers["width"]
        return np.clip(scaled, 0, 1).astype(np.float32)

    def invert(self, volume, numbers):
        return (volume.astype(np.float64) * numbers["width"] + numbers["low"]).astype(np.float32)


class Peeking(Sound):  # learns from the first image alone
    def learn(self, samples):
        volume, _ = next(iter(samples))
        return {"mean": [float(volume.mean())]}


class NotConstant(Sound):  # divides by the width of a constant
    def fit(self, volume, mask):
        numbers = super().fit(volume, mask)
        return {**numbers, "width": float(np.ptp(volume)) or float("nan")}


class InPlace(Sound):  # changes the volume it fits
    def fit(self, volume, mask):
        numbers = super().fit(volume, mask)
        volume[0, 0, 0] = volume.min()
        return numbers


class Shifting(Augmentation):
    """Moves a patch along its first axis."""

    def __call__(self, patches, rng):
        by = int(rng.integers(1, 8))
        return {name: torch.roll(patch, by, dims=1) for name, patch in patches.items()}


class Brightening(Augmentation):
    """Makes the source brighter."""

    intensity: ClassVar[bool] = True

    def __call__(self, patches, rng):
        return {"source": (patches["source"] * float(rng.uniform(0.8, 1.2))).clamp(0, 1)}


class Overwriting(Brightening):  # writes into the patch it is given
    def __call__(self, patches, rng):
        changed = super().__call__(patches, rng)
        patches["source"].copy_(patches["source"].round())
        return changed


class Parting(Shifting):  # moves source and target by different steps
    def __call__(self, patches, rng):
        return {name: super(Parting, self).__call__({name: patch}, rng)[name] for name, patch in patches.items()}


class SoftMask(Shifting):  # blurs the mask's edge
    def __call__(self, patches, rng):
        moved = super().__call__(patches, rng)
        return {name: patch * 0.99 if name == "mask" else patch for name, patch in moved.items()}


SCALINGS = [
    Breaks("says what its numbers mean", altered(Sound, data_range=0.0), "data_range: found 0.0"),
    Breaks("gives float32 in [0, 1]", after(Sound, apply=np.float64), "float64"),
    Breaks(
        "fits plain numbers",
        after(Sound, fit=lambda numbers: {name: np.float32(value) for name, value in numbers.items()}),
        "write float(...)",
    ),
    Breaks("learns in one pass", Peeking, "training images [0] of 3"),
    Breaks("can be undone", after(Sound, apply=lambda volume: np.minimum(volume, 0.5)), "do not come back"),
    Breaks(
        "keeps the order of intensities",
        altered(
            Sound,
            apply=lambda *given: 1 - Sound.apply(*given),
            invert=lambda self, volume, numbers: Sound.invert(self, 1 - volume, numbers),
        ),
        "becomes darker",
    ),
    Breaks("treats all images alike if fixed", altered(Sound, fitted=False), "is not `fitted` but gives"),
    Breaks("stands constant images", NotConstant, "becomes not finite"),
    Breaks("leaves all as it was", InPlace, "changes the volume it is given"),
]
AUGMENTATIONS = [
    Breaks(
        "keeps the form of patches",
        after(Brightening, __call__=lambda patches: {"source": patches["source"] * 1.3}),
        "leaves [0, 1]",
    ),
    Breaks(
        "follows its generator",
        altered(
            Brightening,
            __call__=lambda self, patches, rng: Brightening.__call__(self, patches, np.random.default_rng()),
        ),
        "one `rng` gives two results",
    ),
    Breaks(
        "leaves global random states alone",
        after(Brightening, __call__=lambda patches: (random.random(), patches)[1]),
        "the global state of random",
    ),
    Breaks("leaves its input as it was", Overwriting, "in place"),
    Breaks("keeps source and target together", Parting, "come back different"),
    Breaks("keeps the mask a mask", SoftMask, "other values than 0 and 1"),
]


test_what_is_sound_breaks_no_rule, test_the_broken_rule_is_named_and_no_other, test_every_rule_is_broken = contract(
    "transform",
    [Sound, Shifting, Brightening],
    [*SCALINGS, *AUGMENTATIONS],
    (*SCALING_RULES, *AUGMENTATION_RULES),
    but=SHARED_RULES,
)
