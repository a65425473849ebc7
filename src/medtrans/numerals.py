"""Owns how numbers are written for readers: enough digits, a true minus, a dash where there is none."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["between", "number", "places", "short"]

_NOTHING = "–"


def number(value: float | None, digits: int | None = None) -> str:
    """A score: four digits and no more than four decimals, or `digits` decimals; a dash for None and NaN."""
    if value is None or math.isnan(value):
        return _NOTHING
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value != 0 and abs(value) < 1e-3 and digits is None:
        return f"{value:.2e}".replace("-", "−")
    return f"{value:.{places(value) if digits is None else digits}f}".replace("-", "−")


def short(value: float) -> str:
    """A difference: one digit less than scores have."""
    return f"{value:.2g}".replace("-", "−") if abs(value) < 0.01 else number(value, max(0, places(value) - 1))


def places(value: float) -> int:
    """Decimals that show four digits, and no more than four decimals."""
    return 4 if value == 0 else min(4, max(0, 3 - math.floor(math.log10(abs(value)))))


def between(interval: Sequence[float] | None, digits: int | None = None) -> str:
    """An interval as "low to high"; nothing where there is none."""
    return "" if interval is None else f"{number(interval[0], digits)} to {number(interval[1], digits)}"
