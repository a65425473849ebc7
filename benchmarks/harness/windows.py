"""The cost of a whole volume: the network's own time on its windows, and what goes on around it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from benchmarks.harness.subject import Subject
from benchmarks.harness.timing import Clock, Spread
from medtrans.data.preprocessing import Prepared
from medtrans.inference.sliding_window import Windows as Layout
from medtrans.inference.translator import Translator
from medtrans.plugins.interfaces import Method

__all__ = ["Windows", "measure_windows", "overhead"]

_REPEATS = 3
_AFFORDABLE_S = 15.0


@dataclass(frozen=True)
class Windows:
    """What translating one volume takes.

    Args:
        sides: of the volume in voxels, as networks see it.
        window: sides of a window.
        count: windows.
        network: seconds of the networks on all windows.
        around: seconds of everything else: cutting, padding, blending, copies between host and device.
        whole: seconds of the whole volume; None where that would take long.
    """

    sides: tuple[int, int, int]
    window: tuple[int, ...]
    count: int
    network: Spread
    around: Spread
    whole: float | None

    def as_data(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "sides": list(self.sides),
            "window": list(self.window),
            "windows": self.count,
            "network_seconds": self.network.as_data(),
            "overhead_seconds": self.around.as_data(),
            "overhead_share": self.around.median / self.network.median,
            "whole_seconds": self.whole,
        }


class _Nothing:
    """A method whose networks take no time: what is left is what goes on around them."""

    def __init__(self, method: Method, channels: int) -> None:
        self._method, self._channels = method, channels

    def networks(self) -> dict[str, nn.Module]:
        return self._method.networks()

    def translate(self, source: Tensor) -> Tensor:
        return source[:, :1].expand(-1, self._channels, -1, -1, -1)

    def conclude(self, blended: Tensor) -> Tensor:
        return self._method.conclude(blended)


class _Seen:
    """The real method, which keeps the last windows it was given."""

    def __init__(self, method: Method) -> None:
        self.method = method
        self.windows: Tensor | None = None

    def networks(self) -> dict[str, nn.Module]:
        return self.method.networks()

    def translate(self, source: Tensor) -> Tensor:
        self.windows = source
        raise _FirstSeenError

    def conclude(self, blended: Tensor) -> Tensor:
        return self.method.conclude(blended)


class _FirstSeenError(Exception):
    """The first windows have been seen."""


def measure_windows(subject: Subject) -> Windows:
    """Translate a volume of the config's own with its window, overlap and batch."""
    prepared, clock = subject.data.cache.prepared(subject.volume), Clock(subject.device)
    windows = _first_windows(subject, prepared)
    output = subject.method.translate(windows)
    each = [clock.of(lambda: subject.method.translate(windows)) for _ in range(_REPEATS)]
    count, around = overhead(subject, prepared, channels=output.shape[1])
    network = Spread.of([seconds * count / len(windows) for seconds in each])
    whole = None
    if network.median < _AFFORDABLE_S:
        whole = clock.of(lambda: subject.translator.predict(prepared))
    return Windows(prepared.grid.shape, tuple(windows.shape[2:]), count, network, around, whole)


def overhead(subject: Subject, prepared: Prepared, *, channels: int) -> tuple[int, Spread]:
    """Windows of a volume, and the seconds they take with a network that does nothing."""
    seen = [0]

    def advance(_: int, count: int) -> None:
        seen[0] = count

    nothing = _with(subject, _Nothing(subject.method, channels))
    nothing.predict(prepared, advance)
    clock = Clock(torch.device("cpu"))  # predictions end on the host, so that nothing is left to wait for
    return seen[0], Spread.of([clock.of(lambda: nothing.predict(prepared)) for _ in range(_REPEATS)])


def _first_windows(subject: Subject, prepared: Prepared) -> Tensor:
    seen = _Seen(subject.method)
    with suppress(_FirstSeenError):
        _with(subject, seen).predict(prepared)
    if seen.windows is None:
        raise RuntimeError("a volume without windows")
    return seen.windows


def _with(subject: Subject, method: object) -> Translator:
    """A translator by the same windows that asks a method only for its networks, `translate` and `conclude`."""
    return _SameWindows(subject.translator, cast("Method", method))


class _SameWindows(Translator):
    """One that cuts windows as another does, whatever its own method sees of them."""

    def __init__(self, original: Translator, method: Method) -> None:
        super().__init__(original.experiment, method, original.preprocessing, {})
        self._original = original

    def windows(self, shape: Sequence[int]) -> Layout:
        return self._original.windows(shape)
