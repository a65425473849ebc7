"""Owns the comparison of the `paired` method's step with the plain ones, turn by turn."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from medtrans.bench.clock import Clock
from medtrans.bench.plain_step import PlainStep
from medtrans.bench.spread import Spread, alternated
from medtrans.bench.subject import Subject
from medtrans.builtin.methods.paired import PairedMethod
from medtrans.types import Batch

__all__ = ["compare_steps"]


def compare_steps(subject: Subject, repeats: int) -> dict[str, Any]:
    """Time the config's step, the naive and the reference-style step; ratios above 1 say how much dearer theirs are.

    Args:
        subject: the config.
        repeats: turns that count; one comes before.
    """
    if type(subject.method) is not PairedMethod:
        return {"left_out": f"the plain steps are those of the method paired, not of {_name(subject)}"}
    if subject.experiment.config.train.accumulate > 1:
        return {"left_out": "the plain steps do not accumulate; set train.accumulate=1"}
    steps: dict[str, Any] = {"step": subject.another_method()}
    for name, three_copies in (("naive", False), ("reference", True)):
        other = subject.another_method()
        if isinstance(other, PairedMethod):
            steps[name] = PlainStep(other, three_copies=three_copies)
    with subject.batches() as batches:
        batch = next(batches)
    for one in steps.values():
        one.training_step(batch, 0)
    clock = Clock(subject.device)
    processor: dict[str, list[float]] = {name: [] for name in steps}

    def timed(name: str) -> Callable[[], float]:
        return lambda: _timed(steps[name].training_step, batch, clock, processor[name])

    seconds = alternated({name: timed(name) for name in steps}, repeats)
    found: dict[str, Any] = {"seconds": {name: Spread.of(several).as_data() for name, several in seconds.items()}}
    found["ratios"] = _ratios(seconds)
    if subject.device.type == "cpu":
        found["ratios_of_processor_time"] = _ratios(processor)
    return found


def _timed(take: Callable[[Batch, int], object], batch: Batch, clock: Clock, processor: list[float]) -> float:
    before = time.process_time()
    seconds = clock.of(lambda: take(batch, 1))
    processor.append(time.process_time() - before)
    return seconds


def _ratios(seconds: dict[str, list[float]]) -> dict[str, Any]:
    """Of each turn, what the others took for each second of ours."""
    ours = seconds["step"]
    return {
        name: Spread.of([theirs / own for theirs, own in zip(several, ours, strict=True)]).as_data()
        for name, several in seconds.items()
        if name != "step"
    }


def _name(subject: Subject) -> str:
    return subject.experiment.slots["method",].found.name.removeprefix("builtin:")
