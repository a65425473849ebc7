"""Time and memory on a device, and repeated measurements: turn by turn, the median with the lowest and the highest."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch

__all__ = ["Clock", "Spread", "alternated", "peak_bytes", "processor_seconds"]


class Clock:
    """Marks moments of a device's work and says how far they are apart: by the wall on a CPU, by the stream on a GPU.

    A GPU is waited for only at the end.

    Args:
        device: whose work is timed.
    """

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"

    def mark(self) -> Any:
        """This moment."""
        if not self._cuda:
            return time.perf_counter()
        event: Any = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def seconds(self, first: Any, second: Any) -> float:
        """From one moment to a later one."""
        if not self._cuda:
            return float(second - first)
        second.synchronize()
        return float(first.elapsed_time(second)) / 1e3

    def of(self, do: Callable[[], object]) -> float:
        """Seconds that one doing takes."""
        first = self.mark()
        do()
        return self.seconds(first, self.mark())


def peak_bytes(device: torch.device) -> int:
    """The most bytes so far: those that torch took on a GPU, else those of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


@dataclass(frozen=True)
class Spread:
    """Several measurements of one thing.

    Args:
        median: of all.
        low: the least.
        high: the greatest.
        repeats: how many there were.
    """

    median: float
    low: float
    high: float
    repeats: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of at least one value."""
        return cls(median(values), min(values), max(values), len(values))

    @classmethod
    def of_ratios(cls, ones: Sequence[float], others: Sequence[float]) -> Spread:
        """The spread of the ratios within each turn."""
        return cls.of([one / other for one, other in zip(ones, others, strict=True)])

    def per(self, amount: float) -> Spread:
        """Of seconds, the rate at which `amount` is done: the highest comes of the least time."""
        return Spread(amount / self.median, amount / self.high, amount / self.low, self.repeats)

    def shown(self, form: str = ".2f") -> str:
        """The median, and the range in brackets."""
        return f"{self.median:{form}} ({self.low:{form}} to {self.high:{form}})"

    def as_data(self) -> dict[str, Any]:
        """As plain data."""
        return {"median": self.median, "low": self.low, "high": self.high, "repeats": self.repeats}


def processor_seconds(do: Callable[[], object]) -> float:
    """Seconds of the processor that one doing takes, whatever else the machine has to do."""
    begun = time.process_time()
    do()
    return time.process_time() - begun


def alternated(doings: Mapping[str, Callable[[], float]], repeats: int) -> dict[str, list[float]]:
    """What each doing gives, turn by turn, so that a machine that others use too treats all alike."""
    found: dict[str, list[float]] = {name: [] for name in doings}
    for _ in range(repeats):
        for name, do in doings.items():
            found[name].append(do())
    return found
