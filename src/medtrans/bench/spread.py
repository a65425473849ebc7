"""Owns repeated measurements: the median of several, with the lowest and the highest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

__all__ = ["Spread", "alternated"]


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

    def per(self, amount: float) -> Spread:
        """Of seconds, the rate at which `amount` is done: the highest comes of the least time."""
        return Spread(amount / self.median, amount / self.high, amount / self.low, self.repeats)

    def as_data(self) -> dict[str, Any]:
        """As plain data."""
        return {"median": self.median, "low": self.low, "high": self.high, "repeats": self.repeats}


def alternated(doings: Mapping[str, Callable[[], float]], repeats: int) -> dict[str, list[float]]:
    """What each doing gives, turn by turn, so that a machine that others use too treats all alike."""
    found: dict[str, list[float]] = {name: [] for name in doings}
    for _ in range(repeats):
        for name, do in doings.items():
            found[name].append(do())
    return found
