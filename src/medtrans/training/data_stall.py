"""The warning that a run waits for its data."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from typing import Any

import torch

from medtrans.types import Batch

__all__ = ["DataStall", "DeviceClock", "HostClock"]


_FIRST = 10  # steps that are not looked at: workers start, kernels are chosen, files come from a cold disk
_WINDOW = 50  # steps that are looked at together
_SHARE = 0.2  # of the time; below, more workers would hardly be noticed
_log = logging.getLogger("medtrans")


class HostClock:
    """How long what lies between two marks took a device that has done its work when a call returns: the CPU."""

    def mark(self) -> Any:
        """Now, in the order of the device's work."""
        return time.perf_counter()

    def seconds(self, first: Any, last: Any) -> float:
        """From one mark to another, once both have been reached."""
        return float(last - first)

    def reached(self, mark: Any) -> bool:
        """Whether a mark has been reached; nothing is waited for."""
        return True


class DeviceClock(HostClock):
    """For a GPU, which works on while the host prepares: what it idles between two marks is what it waited."""

    def mark(self) -> Any:
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # torch leaves it untyped
        event.record()
        return event

    def seconds(self, first: Any, last: Any) -> float:
        return float(first.elapsed_time(last)) / 1000

    def reached(self, mark: Any) -> bool:
        return bool(mark.query())


class DataStall:
    """Looks at the first window of steps in which waiting shows, and warns once.

    What the loop does between steps beside waiting for a batch (validation, checkpoints) is not counted. Nothing is
    synchronised: a GPU's marks are read when it has come to them.

    Args:
        clock: of the device; None takes the one that suits the first batch.
    """

    def __init__(self, clock: HostClock | None = None) -> None:
        self._clock = clock
        self._steps = 0
        self._warned = False
        self._marks: list[tuple[Any, Any, Any]] = []
        self._waiting: tuple[Any, Any] | None = None

    def timed(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The batches; the time each is waited for is taken."""
        iterator = iter(batches)
        while True:
            before = None if self._clock is None else self._clock.mark()
            batch = next(iterator, None)
            if batch is None:
                return
            if self._clock is None:
                self._clock = DeviceClock() if batch.source.device.type == "cuda" else HostClock()
            self._waiting = None if before is None or self._warned else (before, self._clock.mark())
            yield batch

    def stepped(self) -> None:
        """A step has been taken on the newest batch; warns where it is time to."""
        self._steps += 1
        if self._warned or self._clock is None or self._waiting is None or self._steps <= _FIRST:
            return
        self._marks.append((*self._waiting, self._clock.mark()))
        if len(self._marks) < _WINDOW or not self._clock.reached(self._marks[_WINDOW - 1][2]):
            return
        window, self._marks = self._marks[:_WINDOW], self._marks[_WINDOW:]
        waited = sum(self._clock.seconds(asked, got) for asked, got, _ in window) / _WINDOW
        worked = sum(self._clock.seconds(got, done) for _, got, done in window) / _WINDOW
        if waited > _SHARE * (waited + worked):
            self._warned = True
            self._marks = []
            _log.warning(
                "the data are waited for %.0f %% of the time: the loader is slower than the step (%d steps took %.3g s "
                "each and waited %.3g s for their patches); raise train.workers while cores are idle, take fewer or "
                "cheaper augmentations, or keep the cache on a faster disk",
                100 * waited / (waited + worked),
                _WINDOW,
                worked,
                waited,
            )
