"""Owns time on a device: of the wall on a CPU, of the stream behind a GPU, which is waited for only at the end."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

__all__ = ["Clock", "peak_bytes"]


class Clock:
    """Marks moments of a device's work and says how far they are apart.

    Args:
        device: whose work is timed.
    """

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"

    def mark(self) -> Any:
        """This moment."""
        if not self._cuda:
            return time.perf_counter()
        event: Any = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # torch leaves it untyped
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
