"""Owns the watcher that the engine adds to every run: reads scalars at the log interval, looks at each validation."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from torch import Tensor

from medtrans.components import Callback, RunInfo, Scored
from medtrans.gan_watch.findings import Findings, findings_in
from medtrans.gan_watch.rules import (
    ROW,
    LossRule,
    SteadyRule,
    baseline_text,
    collapse_text,
    copy_text,
    norm_rules,
    steady_rules,
)
from medtrans.gan_watch.signals import Look, look_at
from medtrans.runfolder import RunFolder

if TYPE_CHECKING:
    from medtrans.preprocess import Prepared

__all__ = ["GanWatch"]

Score: TypeAlias = Callable[[np.ndarray], float]

_NORMS = ("generator_gradient_norm", "discriminator_gradient_norm")

_log = logging.getLogger("medtrans")


class GanWatch(Callback):
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
        self.findings = Findings()
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
        path = RunFolder(run.folder).watch
        self.findings = findings_in(path).until(run.first_step)
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
            self.findings.write(RunFolder(self._run.folder).watch)


def _numbers(values: Mapping[str, Tensor], wanted: set[str]) -> dict[str, float]:
    """Some of the scalars as plain numbers, waiting for the device once."""
    chosen = [name for name in values if name in wanted]
    if not chosen:
        return {}
    device = values[chosen[0]].device
    stacked = torch.stack([values[name].detach().to(device, torch.float64) for name in chosen])
    return dict(zip(chosen, stacked.tolist(), strict=True))
