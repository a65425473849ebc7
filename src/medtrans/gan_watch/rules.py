"""Owns when a figure is a fault: thresholds, how long each must hold, and what the user is told to do."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import fmean

import numpy as np

from medtrans.gan_watch.signals import Look, nearest_correlation, spread

__all__ = ["ROW", "LossRule", "SteadyRule", "baseline_text", "collapse_text", "copy_text", "norm_rules", "steady_rules"]

ROW = 3
"""Validations in a row at which a fault must be seen to be told; the last validation of a run counts alone."""

SPREAD = 0.2
ALIKE = 0.99
COPIED = 0.99
MARGIN = 0.005  # by which the target must be less like the source than the prediction is
RISE = 10.0
RISE_STEPS = 200
STEADY_STEPS = 500
WINS, LOSES, NORMS = 0.99, 0.55, 100.0


def collapse_text(looks: Sequence[Look]) -> str | None:
    """What to say where different sources give nearly the same prediction, else None.

    The spread of the predictions is held against the smaller of the sources' and the targets': a target whose scale is
    wide, such as CT in a window of thousands of HU, varies little by nature.
    """
    source, prediction, target = (
        np.concatenate([getattr(look, name) for look in looks]) for name in ("source", "prediction", "target")
    )
    expected = min(spread(source), *(spread(target[:, channel]) for channel in range(target.shape[1])))
    found = min(spread(prediction[:, channel]) for channel in range(prediction.shape[1]))
    nearest, given = nearest_correlation(prediction), nearest_correlation(source)
    share = found / expected if expected > 0 else math.inf
    if share >= SPREAD and not (nearest > ALIKE and given < ALIKE):
        return None
    return (
        "mode collapse: predictions of different sources are nearly the same: their spread is "
        f"{share:.2g} of that of the images (expected at least {SPREAD}), and each is like another by a correlation of "
        f"{nearest:.3f} (the sources: {given:.3f}). Give a voxel-wise loss such as l1 more weight, lower the "
        "discriminator's learning rate, or take an earlier checkpoint"
    )


def copy_text(looks: Sequence[Look]) -> str | None:
    """What to say where the prediction is the source over again though the target is not, else None."""
    for several in zip(*(look.likenesses for look in looks), strict=True):
        known = [one for one in several if math.isfinite(one.copied) and math.isfinite(one.true)]
        if not known:
            continue
        copied, true = fmean(one.copied for one in known), fmean(one.true for one in known)
        if copied > COPIED and true < copied - MARGIN:
            return (
                f"copy-through: the predictions are the source over again (correlation {copied:.4f}, that of source "
                f"and target is {true:.4f}). Check that source and target are not one file, train longer, or lower "
                "the weight of losses that compare with the source"
            )
    return None


def baseline_text(name: str, mean: float, copied: float, *, higher_is_better: bool) -> str | None:
    """What to say where the validation's mean score is worse than that of the source taken as prediction, else None."""
    if not (math.isfinite(mean) and math.isfinite(copied)) or (mean >= copied if higher_is_better else mean <= copied):
        return None
    return (
        f"worse than copying: the validation's {name} is {mean:.4g}, and {copied:.4g} for the source taken as it is. "
        "Train longer, lower the learning rate, or look whether the pairs are registered; `best` keeps the best weights"
    )


@dataclass
class SteadyRule:
    """A figure read at the log interval that stays beyond a bound for `STEADY_STEPS` steps.

    Args:
        kind: of the fault.
        above: bound that the figure is above; None for none.
        below: bound that it is below; None for none.
        text: what to say, with `{value}` for the newest figure.
    """

    kind: str
    text: str
    above: float | None = None
    below: float | None = None
    since: int | None = None

    def see(self, value: float, step: int, interval: int) -> str | None:
        """What to say at this reading, or None."""
        beyond = (self.above is not None and value > self.above) or (self.below is not None and value < self.below)
        if not beyond:
            self.since = None
            return None
        self.since = step - interval if self.since is None else self.since
        return self.text.format(value=f"{value:.3g}") if step - self.since >= STEADY_STEPS else None


@dataclass
class LossRule:
    """The generator's loss, smoothed over about 200 steps, that stays far above its lowest for `RISE_STEPS` steps.

    A loss that may be 0 or negative has no such ratio and is not judged.
    """

    smooth: float | None = None
    lowest: float = math.inf
    since: int | None = None
    kept: float = field(default=0.95, repr=False)  # of the smoothed value from one reading to the next

    def see(self, value: float, step: int, interval: int) -> str | None:
        """What to say at this reading, or None."""
        self.smooth = value if self.smooth is None else self.kept * self.smooth + (1 - self.kept) * value
        self.lowest = min(self.lowest, self.smooth)
        if self.lowest <= 0 or not self.smooth > RISE * self.lowest:
            self.since = None
            return None
        self.since = step - interval if self.since is None else self.since
        if step - self.since < RISE_STEPS:
            return None
        return (
            f"divergence: the generator's loss is {self.smooth:.3g}, more than {RISE:g} times its lowest "
            f"({self.lowest:.3g}), and has been for {step - self.since} steps. Lower the learning rate or set "
            "method.options.clip_norm; `best` keeps the best weights"
        )


def steady_rules(names: Iterable[str]) -> list[tuple[str, SteadyRule]]:
    """Two rules, by the name of its scalar, for each discriminator's accuracy among a step's scalars."""
    return [pair for name in names if name.endswith("discriminator_accuracy") for pair in _accuracy_rules(name)]


def _accuracy_rules(name: str) -> Iterator[tuple[str, SteadyRule]]:
    yield (
        name,
        SteadyRule(
            f"{name} high",
            f"the discriminator wins: {name} has been above {WINS} for {STEADY_STEPS} steps ({{value}} now), so that "
            "it teaches the generator little. Lower the discriminator's learning rate, or make it smaller",
            above=WINS,
        ),
    )
    yield (
        name,
        SteadyRule(
            f"{name} low",
            f"the generator wins: {name} has been below {LOSES} for {STEADY_STEPS} steps ({{value}} now; 0.5 is "
            "guessing), so that the discriminator teaches it nothing. Raise the discriminator's learning rate, or make "
            "it larger",
            below=LOSES,
        ),
    )


def norm_rules() -> tuple[SteadyRule, SteadyRule]:
    """The rules for the generator's gradient norm divided by the discriminator's."""
    return (
        SteadyRule(
            "gradient norms generator",
            f"the generator's gradients have been more than {NORMS:g} times the discriminator's for {STEADY_STEPS} "
            "steps ({value} times now). Lower the weights of the generator's losses or raise the discriminator's "
            "learning rate",
            above=NORMS,
        ),
        SteadyRule(
            "gradient norms discriminator",
            f"the discriminator's gradients have been more than {NORMS:g} times the generator's for {STEADY_STEPS} "
            "steps (the generator's are {value} of them now). Lower the discriminator's learning rate or set "
            "method.options.clip_norm",
            below=1 / NORMS,
        ),
    )
