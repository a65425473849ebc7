"""Owns the geometry of a strip chart: a dot for each case, quartiles, and marks to compare with, drawn as SVG."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from medtrans.curves import Tick, round_ticks

__all__ = ["Dot", "Mark", "Strip", "StripChart", "strip_chart"]

_ROW, _TOP, _FOOT = 58, 8, 26
_RADIUS = 3.2


@dataclass(frozen=True)
class Dot:
    """One case: where it is drawn, and what a pointer on it says."""

    x: float
    y: float
    title: str


@dataclass(frozen=True)
class Mark:
    """A value that is no case, such as a baseline's mean."""

    x: float
    label: str


@dataclass(frozen=True)
class Strip:
    """One row of dots.

    Args:
        name: of the row; "" for none.
        y: of its middle.
        dots: the cases.
        low, median, high: the quartiles' places; None without a finite value.
        missing: cases that have no finite value.
    """

    name: str
    y: float
    dots: tuple[Dot, ...]
    low: float | None
    median: float | None
    high: float | None
    missing: int


@dataclass(frozen=True)
class StripChart:
    """All rows of one score on one axis, in pixels from the top left."""

    name: str
    width: int
    height: int
    left: float
    right: float
    bottom: float
    strips: tuple[Strip, ...]
    marks: tuple[Mark, ...]
    ticks: tuple[Tick, ...]


def strip_chart(
    name: str,
    rows: Mapping[str, Sequence[tuple[str, float]]],
    *,
    marks: Mapping[str, float | None] | None = None,
    width: int = 500,
) -> StripChart:
    """Lay out the scores of one column; dots that would cover each other are stacked.

    Args:
        name: of the column, with its unit.
        rows: by the row's name, (case's label, value) pairs; what is not finite is counted, not drawn.
        marks: values to compare with, by label; None is left out.
        width: of the chart in pixels.
    """
    left, right = (116.0 if len(rows) > 1 else 16.0), width - 16.0
    shown = {label: value for label, value in (marks or {}).items() if value is not None and math.isfinite(value)}
    finite = [value for cases in rows.values() for _, value in cases if math.isfinite(value)] + list(shown.values())
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    margin = 0.04 * (high - low) or abs(low) / 20 or 0.5
    low, high = low - margin, high + margin

    def x_of(value: float) -> float:
        return round(left + (value - low) / (high - low) * (right - left), 1)

    bottom = float(_TOP + _ROW * len(rows))
    strips = tuple(
        _strip(row, cases, _TOP + _ROW * (place + 0.5), x_of) for place, (row, cases) in enumerate(rows.items())
    )
    return StripChart(
        name,
        width,
        int(bottom) + _FOOT,
        left,
        right,
        bottom,
        strips,
        tuple(Mark(x_of(value), label) for label, value in shown.items()),
        tuple(Tick(x_of(tick), f"{tick:.6g}".replace("-", "−")) for tick in round_ticks(low, high, 5))
        if finite
        else (),
    )


def _strip(name: str, cases: Sequence[tuple[str, float]], middle: float, x_of: Callable[[float], float]) -> Strip:
    finite = sorted((value, label) for label, value in cases if math.isfinite(value))
    dots: list[Dot] = []
    for value, label in finite:
        x = x_of(value)
        taken = {dot.y for dot in dots if abs(dot.x - x) < 2 * _RADIUS}
        places = (middle + sign * step * 2 * _RADIUS for step in range(len(finite) + 1) for sign in (1, -1))
        y = next(round(place, 1) for place in places if round(place, 1) not in taken)
        y = min(max(y, middle - _ROW / 2 + _RADIUS), middle + _ROW / 2 - _RADIUS)
        dots.append(Dot(x, y, f"{label}: {value:.4g}"))
    values = [value for value, _ in finite]
    low, median, high = (x_of(float(place)) for place in np.percentile(values, (25, 50, 75))) if values else (None,) * 3
    return Strip(name, middle, tuple(dots), low, median, high, len(cases) - len(finite))
