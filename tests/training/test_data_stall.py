"""A run that waits for its data says so, once, and says for how long."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import torch

from medtrans.training.data_stall import DataStall, HostClock
from medtrans.types import Batch

BATCH = Batch(source=torch.zeros(1, 1, 2, 2, 2), target=torch.zeros(1, 1, 2, 2, 2), mask=None, cases=(1,))


class Hand(HostClock):
    """A clock that is moved by hand; its marks are reached `behind` marks later, as those of a busy GPU."""

    def __init__(self, behind: int = 0) -> None:
        self.now, self.behind = 0.0, behind
        self.made: list[float] = []

    def mark(self) -> int:
        self.made.append(self.now)
        return len(self.made) - 1

    def seconds(self, first: int, last: int) -> float:
        assert self.reached(last), "a mark is read before the device has come to it"
        return self.made[last] - self.made[first]

    def reached(self, mark: int) -> bool:
        return mark + self.behind < len(self.made)


def _train(loader_s: float, step_s: float, *, steps: int = 200, behind: int = 0, between_s: float = 0.0) -> None:
    """A run whose loader and step take so long each, and which does something else between steps."""
    clock = Hand(behind)
    wait = DataStall(clock)

    def batches() -> Iterator[Batch]:
        for step in range(steps):
            clock.now += loader_s if step else 100.0  # the first batch waits for workers to start
            yield BATCH

    for _ in wait.timed(batches()):
        clock.now += step_s
        wait.stepped()
        clock.now += between_s


def _warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


@pytest.mark.parametrize("behind", [0, 7])
def test_a_slow_loader_is_named_once_with_its_share(caplog: pytest.LogCaptureFixture, behind: int) -> None:
    _train(loader_s=0.3, step_s=0.1, behind=behind)
    (said,) = _warnings(caplog)
    for told in ("75 %", "50 steps took 0.1 s each and waited 0.3 s", "train.workers"):
        assert told in said


@pytest.mark.parametrize(
    "run",
    [
        {"loader_s": 0.02},
        {"loader_s": 0.01, "between_s": 5.0},  # what else is done between steps does not count
        {"loader_s": 1.0, "steps": 40},  # too short to be judged
    ],
)
def test_a_run_that_does_not_wait_for_its_loader_is_left_alone(
    caplog: pytest.LogCaptureFixture, run: dict[str, float]
) -> None:
    _train(step_s=0.1, **run)  # type: ignore[arg-type]  # steps are whole
    assert _warnings(caplog) == []


def test_the_processor_is_timed_by_the_host() -> None:
    clock = HostClock()
    first = clock.mark()
    assert clock.reached(first)
    assert clock.seconds(first, clock.mark()) >= 0


def test_batches_come_as_they_are_and_all_of_them() -> None:
    assert list(DataStall().timed([BATCH, BATCH])) == [BATCH, BATCH]
