"""What goes wrong in an adversarial training without an error: found, told once and recorded.

The engine adds the monitor to every run. It reads scalars at the log interval and looks at each validation.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from medtrans.plugins.interfaces import Callback, RunInfo, Scored
from medtrans.runs.folder import RunFolder
from medtrans.training.copy_and_collapse import SPREAD, ComparedCase, collapse, compare_case, copy_through
from medtrans.utils.files import write_json
from medtrans.utils.seeds import derived_seed

if TYPE_CHECKING:
    from medtrans.data.preprocessing import Prepared

__all__ = ["GanMonitor", "MonitorLog"]


_IN_A_ROW = 3  # validations at which a fault must be seen to be told; the last validation of a run counts alone
_PIECES = 16  # of the validation cases, at least, that are compared with each other
_SIDE = 16  # voxels along each side of a piece
_RISE, _RISE_STEPS = 10.0, 200
_BOUND_STEPS = 500
_KEPT = 0.95  # of the smoothed loss from one reading to the next
_WINS, _LOSES, _NORM_RATIO = 0.99, 0.55, 100.0
_NORMS = ("generator_gradient_norm", "discriminator_gradient_norm")

_log = logging.getLogger("medtrans")


@dataclass
class MonitorLog:
    """By kind, the newest text and the steps at which the fault was first and last seen.

    Args:
        recorded: kind to `{"text", "first", "last"}`.
    """

    recorded: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> MonitorLog:
        """What a file keeps; nothing where there is none or it is damaged, since training does not depend on it."""
        try:
            recorded = json.loads(path.read_text(encoding="utf-8"))["told"]
            return cls(
                {
                    str(kind): {"text": str(one["text"]), "first": int(one["first"]), "last": int(one["last"])}
                    for kind, one in recorded.items()
                }
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return cls()

    def write(self, path: Path) -> None:
        """Keep them in a file."""
        write_json(path, {"told": self.recorded})

    def add(self, kind: str, text: str, step: int) -> bool:
        """Record a fault; True where it is the first of its kind."""
        new = kind not in self.recorded
        self.recorded[kind] = {"text": text, "first": step if new else self.recorded[kind]["first"], "last": step}
        return new

    def warnings(self) -> list[str]:
        """A sentence or two for each kind, in the order of their coming."""
        return [
            f"{one['text']} (first seen at step {one['first']}, last at step {one['last']})"
            for one in sorted(self.recorded.values(), key=lambda one: one["first"])
        ]

    def until(self, step: int) -> MonitorLog:
        """Those that had been made by `step`."""
        return MonitorLog(
            {
                kind: {**one, "last": min(one["last"], step)}
                for kind, one in self.recorded.items()
                if one["first"] <= step
            }
        )


class GanMonitor(Callback):
    """Warns of collapse, copy-through, a won game and divergence; each kind once in the log, all in `findings`.

    It judges the scalars `generator`, `*discriminator_accuracy`, `generator_gradient_norm` and
    `discriminator_gradient_norm`, as far as the method gives them, and the cases of each validation.

    Args:
        interval: steps between readings of the scalars, each of which waits for the device.
        metric: the score in which the model is held against the source taken as prediction.
        higher_is_better: its direction.
        cases: how many cases a validation has.
    """

    def __init__(self, interval: int, metric: str, *, higher_is_better: bool, cases: int) -> None:
        self.findings = MonitorLog()
        self.metric, self._higher_is_better = metric, higher_is_better
        self._interval, self._count = interval, cases
        self._loss = LossRule()
        self._norms = norm_rules()
        self._accuracies: list[tuple[str, BoundRule]] | None = None
        self._cases: list[ComparedCase] = []
        self._scores: list[tuple[float, float]] = []
        self._scores_of_sources: dict[int, float] = {}
        self._in_a_row: dict[str, int] = {}
        self._run: RunInfo | None = None

    def on_start(self, run: RunInfo) -> None:
        """Take up what an interrupted run had found by the step it goes on from; what it found later comes again."""
        self._run = run
        path = RunFolder(run.folder).monitor
        self.findings = MonitorLog.read(path).until(run.first_step)
        if path.exists():
            self.findings.write(path)

    def on_step(self, step: int, values: Mapping[str, Tensor]) -> None:
        """Read the scalars at the log interval, and at the first step, which is what a rise is measured from."""
        if step % self._interval and self._accuracies is not None:
            return
        if self._accuracies is None:
            self._accuracies = [(name, rule) for name in values for rule in accuracy_rules(name)]
        read = _numbers(values, {"generator", *_NORMS, *(name for name, _ in self._accuracies)})
        readings: list[tuple[BoundRule, float]] = [
            (rule, read[name]) for name, rule in self._accuracies if name in read
        ]
        if all(name in read for name in _NORMS) and read[_NORMS[1]] > 0:
            readings += [(rule, read[_NORMS[0]] / read[_NORMS[1]]) for rule in self._norms]
        if "generator" in read:
            readings.append((self._loss, read["generator"]))
        for rule, value in readings:
            self._record(rule.kind, rule.update(value, step, self._interval), step)

    def add_case(
        self,
        number: int,
        prepared: Prepared,
        scaled: np.ndarray,
        foreground: np.ndarray,
        value: float,
        score: Callable[[np.ndarray], float],
    ) -> None:
        """Take in one validation case, before the validation is reported.

        Args:
            number: of the case.
            prepared: its source and target.
            scaled: the prediction `(t, i, j, k)` in [0, 1].
            foreground: `(i, j, k)` booleans.
            value: of `metric` for the prediction.
            score: gives the same for any other prediction of this case.
        """
        if prepared.target is None:
            return
        if number not in self._scores_of_sources:
            self._scores_of_sources[number] = score(np.repeat(np.asarray(prepared.source[:1]), len(scaled), axis=0))
        self._scores.append((value, self._scores_of_sources[number]))
        places = _places(number, math.ceil(_PIECES / self._count), foreground)
        self._cases.append(
            compare_case(
                prepared.source,
                scaled,
                prepared.target,
                foreground if foreground.any() else np.ones_like(foreground),
                lambda image: np.stack([image[place] for place in places]),
            )
        )

    def on_validation(self, step: int, means: Mapping[str, float], cases: Sequence[Scored]) -> None:
        """Judge the cases that were taken in."""
        compared, self._cases = self._cases, []
        scores, self._scores = self._scores, []
        if not compared:
            return
        texts = {
            "collapse": _collapse_text(compared),
            "copy-through": _copy_text(compared),
            "baseline": self._baseline_text(fmean(own for own, _ in scores), fmean(source for _, source in scores)),
        }
        last = self._run is not None and step == self._run.steps
        for kind, text in texts.items():
            self._in_a_row[kind] = 0 if text is None else self._in_a_row.get(kind, 0) + 1
            if self._in_a_row[kind] >= _IN_A_ROW or last:
                self._record(kind, text, step)

    def on_end(self, step: int, error: BaseException | None) -> None:
        """Keep the findings."""
        self._keep()

    def _record(self, kind: str, text: str | None, step: int) -> None:
        if text is not None and self.findings.add(kind, text, step):
            _log.warning("step %d: %s", step, text)
            self._keep()

    def _keep(self) -> None:
        if self._run is not None and self.findings.recorded:
            self.findings.write(RunFolder(self._run.folder).monitor)

    def _baseline_text(self, mean: float, source: float) -> str | None:
        """What to say where the mean score is worse than that of the source taken as prediction, else None."""
        worse = mean < source if self._higher_is_better else mean > source
        if not (worse and math.isfinite(mean) and math.isfinite(source)):
            return None
        return (
            f"worse than copying: the validation's {self.metric} is {mean:.4g}, and {source:.4g} for the source taken "
            "as it is. Train longer, lower the learning rate, or look whether the pairs are registered; `best` keeps "
            "the best weights"
        )


def _numbers(values: Mapping[str, Tensor], wanted: set[str]) -> dict[str, float]:
    """Some of the scalars as plain numbers, waiting for the device once."""
    chosen = [name for name in values if name in wanted]
    if not chosen:
        return {}
    device = values[chosen[0]].device
    stacked = torch.stack([values[name].detach().to(device, torch.float64) for name in chosen])
    return dict(zip(chosen, stacked.tolist(), strict=True))


def _places(number: int, count: int, foreground: np.ndarray) -> list[tuple[slice | np.ndarray, ...]]:
    """Pieces of case `number` that lie where there is foreground, at the same places at every validation."""
    inside = np.argwhere(foreground)
    if not len(inside):
        inside = np.array([[side // 2 for side in foreground.shape]])
    rng = np.random.default_rng(derived_seed(0, "watch", number))
    return [_piece(centre, foreground.shape) for centre in inside[rng.integers(len(inside), size=count)]]


def _piece(centre: Sequence[int], shape: Sequence[int]) -> tuple[slice | np.ndarray, ...]:
    """Indices of a piece around a voxel; where an image is smaller, the voxels at its edge are repeated."""
    axes = [
        np.clip(np.arange(_SIDE) + max(0, min(int(middle) - _SIDE // 2, side - _SIDE)), 0, side - 1)
        for middle, side in zip(centre, shape, strict=True)
    ]
    return (slice(None), *np.ix_(*axes))


def _collapse_text(cases: Sequence[ComparedCase]) -> str | None:
    found = collapse(cases)
    if not found.flagged:
        return None
    return (
        "mode collapse: predictions of different sources are nearly the same: their spread is "
        f"{found.variation:.2g} of that of the images (expected at least {SPREAD}), and each is like another by a "
        f"correlation of {found.nearest:.3f} (the images: {found.nearest_of_images:.3f}). Give a voxel-wise loss such "
        "as l1 more weight, lower the discriminator's learning rate, or take an earlier checkpoint"
    )


def _copy_text(cases: Sequence[ComparedCase]) -> str | None:
    found = copy_through(cases)
    if not found.flagged:
        return None
    return (
        f"copy-through: the predictions are the source over again (correlation {found.source_prediction:.4f}, that of "
        f"source and target is {found.source_target:.4f}). Check that source and target are not one file, train "
        "longer, or lower the weight of losses that compare with the source"
    )


@dataclass
class BoundRule:
    """A figure read at the log interval that stays beyond a bound for a number of steps.

    Args:
        kind: of the fault.
        text: what to say, with `{value}` for the newest figure.
        above: bound that the figure is above.
        below: bound that it is below.
        steps: for which it must be.
    """

    kind: str
    text: str
    above: float = math.inf
    below: float = -math.inf
    steps: int = _BOUND_STEPS
    since: int | None = None

    def update(self, value: float, step: int, interval: int) -> str | None:
        """What to say at this reading, or None."""
        if not (value > self.above or value < self.below):
            self.since = None
            return None
        self.since = step - interval if self.since is None else self.since
        return self.text.format(value=f"{value:.3g}") if step - self.since >= self.steps else None


class LossRule(BoundRule):
    """The generator's loss, smoothed over about 200 steps, that stays far above its lowest.

    A loss that may be 0 or negative has no such ratio and is not judged.
    """

    def __init__(self) -> None:
        super().__init__(
            "divergence",
            f"divergence: the generator's loss is {{value}} times its lowest and has been more than {_RISE:g} times it "
            f"for {_RISE_STEPS} steps. Lower the learning rate or set method.options.clip_norm; `best` keeps the "
            "best weights",
            above=_RISE,
            steps=_RISE_STEPS,
        )
        self._smooth: float | None = None
        self._lowest = math.inf

    def update(self, value: float, step: int, interval: int) -> str | None:
        """As for any figure, of the smoothed loss divided by its lowest."""
        self._smooth = value if self._smooth is None else _KEPT * self._smooth + (1 - _KEPT) * value
        self._lowest = min(self._lowest, self._smooth)
        return super().update(self._smooth / self._lowest if self._lowest > 0 else 0.0, step, interval)


def accuracy_rules(name: str) -> tuple[BoundRule, ...]:
    """The rules for a scalar that is a discriminator's accuracy; none for another."""
    if not name.endswith("discriminator_accuracy"):
        return ()
    return (
        BoundRule(
            f"{name} high",
            f"the discriminator wins: {name} has been above {_WINS} for {_BOUND_STEPS} steps ({{value}} now), so that "
            "it teaches the generator little. Lower the discriminator's learning rate, or make it smaller",
            above=_WINS,
        ),
        BoundRule(
            f"{name} low",
            f"the generator wins: {name} has been below {_LOSES} for {_BOUND_STEPS} steps ({{value}} now; 0.5 is "
            "guessing), so that the discriminator teaches it nothing. Raise the discriminator's learning rate, or make "
            "it larger",
            below=_LOSES,
        ),
    )


def norm_rules() -> tuple[BoundRule, ...]:
    """The rules for the generator's gradient norm divided by the discriminator's."""
    return (
        BoundRule(
            "gradient norms generator",
            f"the generator's gradients have been more than {_NORM_RATIO:g} times the discriminator's for "
            f"{_BOUND_STEPS} steps ({{value}} times now). Lower the weights of the generator's losses or raise the "
            "discriminator's learning rate",
            above=_NORM_RATIO,
        ),
        BoundRule(
            "gradient norms discriminator",
            f"the discriminator's gradients have been more than {_NORM_RATIO:g} times the generator's for "
            f"{_BOUND_STEPS} steps (the generator's are {{value}} of them now). Lower the discriminator's learning "
            "rate or set method.options.clip_norm",
            below=1 / _NORM_RATIO,
        ),
    )
