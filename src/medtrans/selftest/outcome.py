"""Owns the result of one check."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Outcome"]


@dataclass(frozen=True)
class Outcome:
    """What a check found.

    Args:
        name: of the check.
        promise: what it holds medtrans to.
        figure: what was found, in numbers.
        passed: whether the promise is kept.
        seconds: it took.
    """

    name: str
    promise: str
    figure: str
    passed: bool
    seconds: float

    def as_data(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)
