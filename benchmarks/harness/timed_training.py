"""Trainings that take turns, each for the same processor time, scored on whole volumes along the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

import torch

from benchmarks.harness.subject import Subject, opened_subject
from benchmarks.harness.timing import processor_seconds
from medtrans.config.loading import load_config
from medtrans.evaluation.scorer import Scorer
from medtrans.evaluation.validation import translate_and_score
from medtrans.plugins.interfaces import Method
from medtrans.types import Batch
from medtrans.utils.seeds import derived_seed

__all__ = ["Point", "Trainee", "trained_in_turns", "trainee"]


@dataclass(frozen=True)
class Point:
    """How good a training is after some processor time."""

    seconds: float
    step: int
    psnr: float
    ssim: float


@dataclass
class Trainee:
    """One training.

    Args:
        subject: whose weights are scored, on its own test cases.
        batches: that it trains on.
        take: takes a step.
    """

    subject: Subject
    batches: Iterator[Batch]
    take: Callable[[Batch, int], Any]
    seconds: float = 0.0
    step: int = 0
    points: list[Point] = field(default_factory=list)

    def train_until(self, mark: float) -> None:
        """Take steps until so much processor time is spent, and score."""
        while self.seconds < mark:
            self.seconds += processor_seconds(self._step)
        data = self.subject.data
        scorer, translator = Scorer.of(data), self.subject.translator
        test = data.cohort.of("test")
        scores = [translate_and_score(data, scorer, translator, member).scores.values for member in test]
        psnr, ssim = (fmean(next(v for k, v in one.items() if k.startswith(name)) for one in scores) for name in KEYS)
        self.points.append(Point(self.seconds, self.step, psnr, ssim))

    def _step(self) -> None:
        batch = next(self.batches)
        torch.manual_seed(derived_seed(self.subject.experiment.config.seed, "step", self.step, 0))
        self.take(batch, self.step)
        self.step += 1


KEYS = ("psnr", "ssim")


@contextmanager
def trainee(
    config: Sequence[str | Mapping[str, Any]], plain: Callable[[Method], Callable[[Batch, int], Any]] | None = None
) -> Iterator[Trainee]:
    """A config ready to train; `plain` makes another step of its method."""
    with opened_subject(load_config(config), whole=True) as subject, subject.batches() as batches:
        take = subject.method.training_step if plain is None else plain(subject.method)
        yield Trainee(subject, batches, take)


def trained_in_turns(trainees: Mapping[str, Trainee], marks: Sequence[float]) -> None:
    """Train all to each mark, in seconds of processor time, and print how good they are there."""
    for mark in marks:
        for name, one in trainees.items():
            one.train_until(mark)
            last = one.points[-1]
            print(
                f"{name}: {last.seconds:.0f} s, step {last.step}, PSNR {last.psnr:.2f} dB, SSIM {last.ssim:.4f}",
                flush=True,
            )
