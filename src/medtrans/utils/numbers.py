"""How numbers are written for readers: enough digits, a true minus, a dash where there is none."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["DASH", "MINUS", "between", "number", "places", "probability", "short", "sides", "signed", "signed_between"]


DASH = "–"
"""For a number that is not there."""

MINUS = "−"


def number(value: float | None, digits: int | None = None) -> str:
    """A score: four digits and no more than four decimals, or `digits` decimals; a dash for None and NaN."""
    if value is None or math.isnan(value):
        return DASH
    if math.isinf(value):
        return "∞" if value > 0 else f"{MINUS}∞"
    if value != 0 and abs(value) < 1e-3 and digits is None:
        return f"{value:.2e}".replace("-", MINUS)
    return f"{value:.{places(value) if digits is None else digits}f}".replace("-", MINUS)


def short(value: float | None) -> str:
    """A difference: one digit less than scores have."""
    if value is None or not math.isfinite(value):
        return number(value)
    return f"{value:.2g}".replace("-", MINUS) if abs(value) < 0.01 else number(value, max(0, places(value) - 1))


def signed(value: float | None) -> str:
    """A difference, as `short`, with its sign."""
    return f"{'+' if value is not None and value > 0 else ''}{short(value)}"


def places(value: float) -> int:
    """Decimals that show four digits, and no more than four decimals."""
    return 4 if value == 0 else min(4, max(0, 3 - math.floor(math.log10(abs(value)))))


def between(interval: Sequence[float] | None, digits: int | None = None) -> str:
    """An interval as "low to high"; nothing where there is none."""
    return "" if interval is None else f"{number(interval[0], digits)} to {number(interval[1], digits)}"


def signed_between(interval: Sequence[float] | None) -> str:
    """An interval of a difference, with signs; nothing where there is none."""
    return "" if interval is None else f"{signed(interval[0])} to {signed(interval[1])}"


def probability(value: float | None) -> str:
    """A p-value: three decimals, or that it is less than 0.001."""
    return "< 0.001" if value is not None and value < 0.001 else number(value, 3)


def sides(lengths: Sequence[float] | None) -> str:
    """Lengths along axes, such as "0.5×0.5×3"; a question mark where they are unknown."""
    if lengths is None:
        return "?"
    return "×".join(f"{length:.0f}" if length == round(length) else f"{length:.3g}" for length in lengths)
