"""Owns the geometry of a small line chart: points, ticks and labels that a template draws as SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Chart", "Tick", "chart", "round_ticks"]

_MOST_POINTS = 300


@dataclass(frozen=True)
class Tick:
    """A labelled position on an axis, in the chart's own pixels."""

    at: float
    label: str


@dataclass(frozen=True)
class Chart:
    """A line chart in pixels from the top left.

    Args:
        name: of the curve.
        width: of the whole chart.
        height: of the whole chart.
        left, top, right, bottom: of the plotted area.
        line: the points of a polyline, as SVG writes them; "" without a finite value.
        x_ticks: along the steps.
        y_ticks: along the values.
        last: the last finite value, "" without one.
    """

    name: str
    width: int
    height: int
    left: float
    top: float
    right: float
    bottom: float
    line: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    last: str


def chart(name: str, points: Sequence[tuple[float, float]], *, width: int = 340, height: int = 180) -> Chart:
    """Lay out a curve.

    The steps begin at 0. Values that are not finite are left out. Of many points, neighbours are averaged until some
    hundreds are left.

    Args:
        name: of the curve.
        points: (step, value) in the order of the steps.
        width: of the chart in pixels.
        height: of the chart in pixels.
    """
    left, top, right, bottom = 52.0, 10.0, width - 20.0, height - 26.0
    finite = [(float(step), float(value)) for step, value in points if math.isfinite(value)]
    if not finite:
        return Chart(name, width, height, left, top, right, bottom, "", (), (), "")
    drawn = _thinned(finite)
    values = [value for _, value in drawn]
    x_low, x_high = 0.0, max(*(step for step, _ in finite), 1.0)
    y_low, y_high = _widened(min(values), max(values))
    margin = 0.05 * (y_high - y_low)
    y_low, y_high = y_low - margin, y_high + margin

    def x_of(step: float) -> float:
        return round(left + (step - x_low) / (x_high - x_low) * (right - left), 1)

    def y_of(value: float) -> float:
        return round(bottom - (value - y_low) / (y_high - y_low) * (bottom - top), 1)

    return Chart(
        name,
        width,
        height,
        left,
        top,
        right,
        bottom,
        " ".join(f"{x_of(step)},{y_of(value)}" for step, value in drawn),
        tuple(Tick(x_of(tick), _steps(tick)) for tick in round_ticks(x_low, x_high, 5)),
        tuple(Tick(y_of(tick), f"{tick:.6g}".replace("-", "−")) for tick in round_ticks(y_low, y_high, 4)),
        f"{finite[-1][1]:.4g}".replace("-", "−"),
    )


def _steps(step: float) -> str:
    return f"{step / 1000:g}k" if step >= 10_000 else f"{step:g}"


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    size = math.ceil(len(points) / _MOST_POINTS)
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [(sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group)) for group in groups]


def _widened(low: float, high: float) -> tuple[float, float]:
    """The range itself, or one around a single value."""
    if high > low:
        return low, high
    margin = abs(low) / 2 or 0.5
    return low - margin, high + margin


def round_ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers in a range: steps of 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10((high - low) / about))
    step = next(power * factor for factor in (1, 2, 5, 10) if (high - low) / (power * factor) <= about)
    first, last = math.ceil(low / step), math.floor(high / step)
    return [index * step for index in range(first, last + 1)]
