"""The time, the operations and the memory of training steps, part by part."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.harness.step_parts import amounts, recorded, translating
from benchmarks.harness.subject import Subject
from benchmarks.harness.timing import Clock, Spread, peak_bytes
from medtrans.plugins.interfaces import Method
from medtrans.types import Batch

__all__ = ["Part", "Steps", "counted", "measure_steps"]

DATA = "data"


@dataclass(frozen=True)
class Part:
    """One part of a step.

    Args:
        name: as it is shown.
        seconds: that it took.
        operations: floating point operations, of convolutions and matrix products.
    """

    name: str
    seconds: Spread
    operations: float


@dataclass(frozen=True)
class Steps:
    """What training steps took.

    Args:
        seconds: of a whole step, its wait for data counted.
        parts: of a step, in the order in which they happen.
        operations: of a step.
        peak: the most bytes: on a GPU those of the steps, else those of the process so far.
    """

    seconds: Spread
    parts: tuple[Part, ...]
    operations: float
    peak: int

    def as_data(self, ceiling: float) -> dict[str, Any]:
        """As plain data, with the share of a ceiling (operations in a second) that is reached."""
        return {
            "seconds": self.seconds.as_data(),
            "operations": self.operations,
            "fraction_of_ceiling": self.operations / self.seconds.median / ceiling,
            "peak_bytes": self.peak,
            "parts": [
                {
                    "name": part.name,
                    "seconds": part.seconds.as_data(),
                    "share": part.seconds.median / self.seconds.median,
                    "operations": part.operations,
                    "fraction_of_ceiling": _fraction(part, ceiling),
                }
                for part in self.parts
            ],
        }


def measure_steps(subject: Subject, count: int) -> Steps:
    """Take training steps on the config's own patches and say what each part took.

    Args:
        subject: is trained.
        count: steps that count; others come before them, in which caches fill and kernels are chosen.
    """
    method, clock = subject.method, Clock(subject.device)
    warm = 3 if subject.device.type == "cuda" else 1
    whole: list[float] = []
    by_part: list[dict[str, float]] = []
    with subject.batches() as batches:
        batch = next(batches)
        translators = translating(method, batch.source)
        operations = counted(method, batch, lambda one, step: method.training_step(one, step), translators)
        if subject.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(subject.device)
        for step in range(1, warm + count + 1):
            begun = clock.mark()
            batch = next(batches)
            fetched = clock.mark()
            with recorded(method, clock.mark) as recorder:
                method.training_step(batch, step)
                segments = recorder.segments()
            ended = clock.mark()
            if step > warm:
                whole.append(clock.seconds(begun, ended))
                data = {DATA: clock.seconds(begun, fetched)}
                by_part.append(data | amounts(segments, translators, clock.seconds))
    names = list(dict.fromkeys(name for one in by_part for name in one))
    parts = tuple(
        Part(name, Spread.of([one.get(name, 0.0) for one in by_part]), operations.get(name, 0.0)) for name in names
    )
    return Steps(Spread.of(whole), parts, sum(operations.values()), peak_bytes(subject.device))


def counted(
    method: Method, batch: Batch, take: Callable[[Batch, int], object], translators: set[str]
) -> Mapping[str, float]:
    """The operations of each part of one step, which is taken."""
    with _counter() as counter, recorded(method, counter.get_total_flops) as recorder:
        take(batch, 0)
        segments = recorder.segments()
    return amounts(segments, translators, lambda first, second: float(second - first))


@contextmanager
def _counter() -> Iterator[FlopCounterMode]:
    with warnings.catch_warnings():
        # Of its tree of modules, which is not looked at.
        warnings.simplefilter("ignore")
        with FlopCounterMode(display=False) as counter:
            yield counter


def _fraction(part: Part, ceiling: float) -> float | None:
    """The share of the ceiling that a part reaches; None where it does no convolution or matrix product."""
    if part.operations == 0 or part.seconds.median == 0:
        return None
    return part.operations / part.seconds.median / ceiling
