"""The figures that the monitor goes by, when one of them is a fault, and what the user is told to do."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import fmean

import numpy as np

from medtrans.utils.seeds import derived_seed

__all__ = [
    "ROW",
    "Look",
    "LossRule",
    "Similarity",
    "SteadyRule",
    "baseline_text",
    "collapse_text",
    "copy_text",
    "correlation",
    "look_at",
    "nearest_correlation",
    "norm_rules",
    "spread",
    "steady_rules",
]


SAMPLES = 16
"""Pieces of the validation cases, at least, that are compared with each other."""

SIDE = 16
"""Voxels along each side of a piece."""


@dataclass(frozen=True)
class Similarity:
    """Correlations in the foreground of one case; NaN where an image is constant.

    Args:
        copied: of a source channel with a predicted target.
        true: of the same source channel with the target itself.
    """

    copied: float
    true: float


@dataclass(frozen=True)
class Look:
    """What is kept of one validation case.

    Args:
        source: pieces `(n, c, SIDE, SIDE, SIDE)`.
        prediction: the same pieces of the prediction.
        target: the same pieces of the target.
        likenesses: for each source channel with each target, in that order.
    """

    source: np.ndarray
    prediction: np.ndarray
    target: np.ndarray
    likenesses: tuple[Similarity, ...]


def look_at(
    number: int,
    cases: int,
    source: np.ndarray,
    prediction: np.ndarray,
    target: np.ndarray,
    foreground: np.ndarray,
) -> Look:
    """Look at one case: pieces that lie where there is foreground, at the same places at every validation.

    Args:
        number: of the case; the places depend on nothing else.
        cases: how many are looked at in all.
        source: `(c, i, j, k)` in [0, 1].
        prediction: `(t, i, j, k)` in [0, 1].
        target: likewise.
        foreground: `(i, j, k)` booleans.
    """
    places = _places(number, math.ceil(SAMPLES / cases), foreground)
    first, second, third = (np.stack([image[place] for place in places]) for image in (source, prediction, target))
    inside = foreground if foreground.any() else np.ones_like(foreground)
    likenesses = tuple(
        Similarity(correlation(given[inside], made[inside]), correlation(given[inside], true[inside]))
        for given in source
        for made, true in zip(prediction, target, strict=True)
    )
    return Look(first, second, third, likenesses)


def spread(samples: np.ndarray) -> float:
    """How far samples `(n, ...)` differ from each other: their standard deviation at a voxel, mean over voxels."""
    return float(np.std(samples.astype(np.float64), axis=0).mean())


def nearest_correlation(samples: np.ndarray) -> float:
    """The correlation of a sample `(n, ...)` with the one most like it, median over samples; of constant ones 1."""
    rows = samples.reshape(len(samples), -1).astype(np.float64)
    rows -= rows.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(rows, axis=1)
    flat = norms < 1e-9 * math.sqrt(rows.shape[1])
    rows /= np.where(flat, 1, norms)[:, None]
    table = rows @ rows.T
    table[np.ix_(flat, flat)] = 1
    np.fill_diagonal(table, -1)
    return float(np.median(table.max(axis=1)))


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Normalised cross-correlation of two images; NaN where one of them is constant."""
    first, second = (image.astype(np.float64).ravel() - image.mean(dtype=np.float64) for image in (one, other))
    norm = np.linalg.norm(first) * np.linalg.norm(second)
    return float(first @ second / norm) if norm > 1e-12 else math.nan


def _places(number: int, count: int, foreground: np.ndarray) -> list[tuple[slice | np.ndarray, ...]]:
    inside = np.argwhere(foreground)
    if not len(inside):
        inside = np.array([[side // 2 for side in foreground.shape]])
    rng = np.random.default_rng(derived_seed(0, "watch", number))
    return [_piece(centre, foreground.shape) for centre in inside[rng.integers(len(inside), size=count)]]


def _piece(centre: Sequence[int], shape: Sequence[int]) -> tuple[slice | np.ndarray, ...]:
    """Indices of a piece around a voxel; where an image is smaller, the voxels at its edge are repeated."""
    axes = [
        np.clip(np.arange(SIDE) + max(0, min(int(middle) - SIDE // 2, side - SIDE)), 0, side - 1)
        for middle, side in zip(centre, shape, strict=True)
    ]
    return (slice(None), *np.ix_(*axes))


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
