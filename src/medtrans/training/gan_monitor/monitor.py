"""The monitor that the engine adds to every run: reads scalars at the log interval, looks at each validation."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from medtrans.plugins.interfaces import Callback, RunInfo, Scored
from medtrans.runs.folder import RunFolder
from medtrans.training.gan_monitor.rules import (
    ROW,
    Look,
    LossRule,
    SteadyRule,
    baseline_text,
    collapse_text,
    copy_text,
    look_at,
    norm_rules,
    steady_rules,
)
from medtrans.utils.files import write_json

if TYPE_CHECKING:
    from medtrans.data.preprocessing import Prepared

__all__ = ["GanMonitor", "MonitorLog", "monitor_log_in"]


@dataclass
class MonitorLog:
    """By kind, the newest text and the steps at which the fault was first and last seen.

    Args:
        told: kind to `{"text", "first", "last"}`.
    """

    told: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, kind: str, text: str, step: int) -> bool:
        """Record a fault; True where it is the first of its kind."""
        new = kind not in self.told
        self.told[kind] = {"text": text, "first": step if new else self.told[kind]["first"], "last": step}
        return new

    def warnings(self) -> list[str]:
        """A sentence or two for each kind, in the order of their coming."""
        return [
            f"{found['text']} (first seen at step {found['first']}, last at step {found['last']})"
            for found in sorted(self.told.values(), key=lambda found: found["first"])
        ]

    def until(self, step: int) -> MonitorLog:
        """Those that had been made by `step`."""
        return MonitorLog(
            {
                kind: {**found, "last": min(found["last"], step)}
                for kind, found in self.told.items()
                if found["first"] <= step
            }
        )

    def write(self, path: Path) -> None:
        """Keep them in a file."""
        write_json(path, {"told": self.told})


def monitor_log_in(path: Path) -> MonitorLog:
    """What a file keeps; nothing where there is none or it is damaged, since training does not depend on it."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))["told"]
        return MonitorLog({str(kind): _checked(found) for kind, found in told.items()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return MonitorLog()


def _checked(found: Mapping[str, Any]) -> dict[str, Any]:
    return {"text": str(found["text"]), "first": int(found["first"]), "last": int(found["last"])}


Score: TypeAlias = Callable[[np.ndarray], float]

_NORMS = ("generator_gradient_norm", "discriminator_gradient_norm")

_log = logging.getLogger("medtrans")


class GanMonitor(Callback):
    """Warns of collapse, copy-through, a won game and divergence; each kind once in the log, all in `findings`.

    It judges the scalars `generator`, `*discriminator_accuracy`, `generator_gradient_norm` and
    `discriminator_gradient_norm`, as far as the method gives them, and what `see_case` is shown during a validation.

    Args:
        interval: steps between readings of the scalars, each of which waits for the device.
        judged_by: the score in which the model is held against the source taken as prediction.
        higher_is_better: its direction.
        cases: how many cases a validation has.
    """

    def __init__(self, interval: int, judged_by: str, *, higher_is_better: bool, cases: int) -> None:
        self.findings = MonitorLog()
        self._interval, self._cases = interval, cases
        self.judged_by, self._higher_is_better = judged_by, higher_is_better
        self._loss = LossRule()
        self._norms = norm_rules()
        self._steady: list[tuple[str, SteadyRule]] | None = None
        self._looks: list[Look] = []
        self._copies: dict[int, float] = {}
        self._scores: list[tuple[float, float]] = []
        self._row: dict[str, int] = {}
        self._run: RunInfo | None = None

    def on_start(self, run: RunInfo) -> None:
        """Take up what an interrupted run had found by the step it goes on from; what it found later comes again."""
        self._run = run
        path = RunFolder(run.folder).monitor
        self.findings = monitor_log_in(path).until(run.first_step)
        if path.exists():
            self.findings.write(path)

    def on_step(self, step: int, values: Mapping[str, Tensor]) -> None:
        """Read the scalars at the log interval, and at the first step, which is what a rise is measured from."""
        if step % self._interval and self._steady is not None:
            return
        if self._steady is None:
            self._steady = steady_rules(values)
        read = _numbers(values, {"generator", *_NORMS, *(name for name, _ in self._steady)})
        told = [(rule.kind, rule.see(read[name], step, self._interval)) for name, rule in self._steady if name in read]
        if "generator" in read:
            told.append(("divergence", self._loss.see(read["generator"], step, self._interval)))
        if all(name in read for name in _NORMS) and read[_NORMS[1]] > 0:
            ratio = read[_NORMS[0]] / read[_NORMS[1]]
            told += [(rule.kind, rule.see(ratio, step, self._interval)) for rule in self._norms]
        for kind, text in told:
            self._tell(kind, text, step)

    def see_case(
        self, number: int, prepared: Prepared, scaled: np.ndarray, foreground: np.ndarray, own: float, score: Score
    ) -> None:
        """Look at one validation case, before the validation is reported.

        Args:
            number: of the case.
            prepared: its source and target.
            scaled: the prediction `(t, i, j, k)` in [0, 1].
            foreground: `(i, j, k)` booleans.
            own: what `judged_by` gives for the prediction.
            score: gives the same for any other prediction of this case.
        """
        if prepared.target is None:
            return
        if number not in self._copies:
            self._copies[number] = score(np.repeat(np.asarray(prepared.source[:1]), len(scaled), axis=0))
        self._scores.append((own, self._copies[number]))
        self._looks.append(look_at(number, self._cases, prepared.source, scaled, prepared.target, foreground))

    def on_validation(self, step: int, means: Mapping[str, float], cases: Sequence[Scored]) -> None:
        """Judge what was looked at."""
        looks, self._looks = self._looks, []
        scores, self._scores = self._scores, []
        if not looks:
            return
        texts = {
            "collapse": collapse_text(looks),
            "copy-through": copy_text(looks),
            "baseline": baseline_text(
                self.judged_by,
                fmean(own for own, _ in scores),
                fmean(copied for _, copied in scores),
                higher_is_better=self._higher_is_better,
            ),
        }
        last = self._run is not None and step == self._run.steps
        for kind, text in texts.items():
            self._row[kind] = 0 if text is None else self._row.get(kind, 0) + 1
            if self._row[kind] >= ROW or last:
                self._tell(kind, text, step)

    def on_end(self, step: int, error: BaseException | None) -> None:
        """Keep the findings."""
        self._keep()

    def _tell(self, kind: str, text: str | None, step: int) -> None:
        if text is not None and self.findings.add(kind, text, step):
            _log.warning("step %d: %s", step, text)
            self._keep()

    def _keep(self) -> None:
        if self._run is not None and self.findings.told:
            self.findings.write(RunFolder(self._run.folder).monitor)


def _numbers(values: Mapping[str, Tensor], wanted: set[str]) -> dict[str, float]:
    """Some of the scalars as plain numbers, waiting for the device once."""
    chosen = [name for name in values if name in wanted]
    if not chosen:
        return {}
    device = values[chosen[0]].device
    stacked = torch.stack([values[name].detach().to(device, torch.float64) for name in chosen])
    return dict(zip(chosen, stacked.tolist(), strict=True))
