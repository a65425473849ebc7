"""Charts that a page holds as SVG: a curve over training steps, and every case's score in strips."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Mapping, Sequence
from html import escape
from io import StringIO
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from medtrans.utils.messages import MINUS, number

__all__ = ["Chart", "agreement_chart", "histogram_chart", "line_chart", "strip_chart"]


# Text as text and a fixed salt: the same data give the same bytes, whatever fonts there are.
_STYLE: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": "medtrans", "text.parse_math": False}
# Colours that nothing else has, exchanged for those of the page, which has a light and a dark theme.
_SOFT, _RULE, _ACCENT = "#020202", "#030303", "#040404"
_COLOURS = {_SOFT: "var(--soft)", _RULE: "var(--rule)", _ACCENT: "var(--accent)"}
# What the page says itself, and names that it may hold only once.
_NOISE = (
    r' xmlns(:\w+)?="[^"]*"', r' (width|height)="[\d.]+pt"', r' id="[^"]*_\d+"',
    r"<defs>\s*<style.*?</style>\s*</defs>", r"font(-\w+)?: [^;]*; ",
)  # fmt: skip
_MOST_POINTS = 300
_STEPS = (1, 2, 5, 10)
_DOT = 6.0  # points across


class Chart(NamedTuple):
    """A chart as a page shows it.

    Args:
        title: above it.
        svg: an `<svg>` element that says what it shows in `<title>` and `<desc>`.
        last: a curve's last finite value, "" without one.
        notes: what stands below it.
    """

    title: str
    svg: str
    last: str = ""
    notes: tuple[str, ...] = ()


@rc_context(_STYLE)
def line_chart(title: str, points: Sequence[tuple[float, float]]) -> Chart:
    """A curve; values that are not finite are left out, and of many points neighbours are averaged.

    Args:
        title: what the curve shows.
        points: (step, value) in the order of the steps.
    """
    finite = [(step, value) for step, value in points if math.isfinite(value)]
    figure, axes = _frame(4.4, 2.3, left=0.17, right=0.95)
    if not finite:
        axes.text(0.5, 0.5, "no finite value", ha="center", transform=axes.transAxes, color=_SOFT)
        axes.set_axis_off()
        return Chart(title, _svg(figure, title, "no finite value"))
    groups = np.array_split(np.asarray(finite), min(_MOST_POINTS, len(finite)))
    steps, values = np.array([group.mean(axis=0) for group in groups]).T
    axes.plot(steps, values, color=_ACCENT, linewidth=1.5, marker="o" if len(steps) == 1 else "", markersize=4)
    axes.set_xlim(0, max(finite[-1][0], 1))
    axes.set_ylim(*_around(values.min(), values.max()))
    axes.yaxis.set_major_locator(MaxNLocator(4, steps=_STEPS))
    axes.grid(axis="y", color=_RULE, linewidth=0.8)
    last = number(finite[-1][1])
    return Chart(title, _svg(figure, title, f"over {finite[-1][0]:g} training steps; the last value is {last}"), last)


@rc_context(_STYLE)
def strip_chart(
    title: str,
    rows: Mapping[str, Sequence[tuple[str, float]]],
    *,
    marks: Mapping[str, float | None] | None = None,
) -> Chart:
    """A dot for each case, the quartiles and the median; dots that would cover each other are stacked.

    Args:
        title: name of the score, with its unit.
        rows: by the row's name, (case's label, value) pairs; what is not finite is counted, not drawn.
        marks: values to compare with, by label; None is left out.
    """
    drawn = {
        row: sorted((value, label) for label, value in cases if math.isfinite(value)) for row, cases in rows.items()
    }
    shown = {label: value for label, value in (marks or {}).items() if value is not None and math.isfinite(value)}
    every = [value for cases in drawn.values() for value, _ in cases] + list(shown.values())
    figure, axes = _frame(6.6, 0.55 + 0.75 * len(rows), left=0.24 if len(rows) > 1 else 0.03, right=0.97)
    axes.set_xlim(*_around(min(every, default=0.0), max(every, default=1.0)))
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks(range(len(rows)), [row if len(row) < 18 else f"{row[:16]}…" for row in rows])
    axes.spines["left"].set_visible(False)
    axes.tick_params(left=False)
    described = []
    for place, (row, cases) in enumerate(drawn.items()):
        if cases:
            values = [value for value, _ in cases]
            low, median, high = np.percentile(values, (25, 50, 75))
            axes.broken_barh([(low, high - low)], (place - 0.3, 0.6), facecolor=_ACCENT, alpha=0.13)
            axes.vlines(median, place - 0.3, place + 0.3, color=_ACCENT, linewidth=2)
            described.append(f"{row} {len(cases)} cases, median {number(median)}".strip())
            heights = place + _stacked(values, axes)
            axes.plot(values, heights, "o", color=_ACCENT, markersize=_DOT, markeredgewidth=0, alpha=0.72)
    for count, value in enumerate(shown.values(), 1):
        axes.axvline(value, color=_SOFT, linewidth=1.2, linestyle=(0, (3, 3)))
        right_of_it: dict[str, Any] = {"xytext": (3, -9), "textcoords": "offset points"}
        axes.annotate(str(count), (value, 1), xycoords=("data", "axes fraction"), color=_SOFT, **right_of_it)
    dots = [f"{label}: {number(value)}" for cases in drawn.values() for value, label in cases]
    notes = [", ".join(f"{count} {label}" for count, label in enumerate(shown, 1))] if shown else []
    for row, cases in drawn.items():
        if missing := len(rows[row]) - len(cases):
            where = f" ({row})" if row else ""
            notes.append(f"{missing} case{'' if missing == 1 else 's'} without a finite value{where}.")
    return Chart(title, _svg(figure, title, "; ".join(described) or "no finite value", dots), notes=tuple(notes))


@rc_context(_STYLE)
def histogram_chart(title: str, first: float, width: float, counts: Sequence[int]) -> Chart:
    """Shares of voxels by error; the least and greatest 0.1 % are left out.

    Args:
        title: what is counted, with its unit.
        first: lower end of the first bin.
        width: of a bin.
        counts: in each bin.
    """
    shares = 100 * np.asarray(counts, dtype=np.float64) / sum(counts)
    below = np.cumsum(shares)
    shown = (below >= 0.1) & (below - shares <= 99.9)
    lefts, shares = (first + width * np.arange(len(counts)))[shown], shares[shown]
    figure, axes = _frame(6.6, 2.3, left=0.1, right=0.97)
    axes.bar(lefts, shares, width=width, align="edge", color=_ACCENT, linewidth=0)
    axes.axvline(0, color=_SOFT, linewidth=1)
    axes.set_ylim(0, 1.05 * shares.max())
    axes.yaxis.set_major_locator(MaxNLocator(4, steps=_STEPS))
    middle = first + width * (np.searchsorted(below, 50) + 0.5)
    return Chart(title, _svg(figure, title, f"half of the voxels lie below {number(middle)}"))


@rc_context(_STYLE)
def agreement_chart(title: str, means: Mapping[str, Sequence[float]]) -> Chart:
    """Bland and Altman's plot: each case's mean error over the mean of both, the bias and the limits of agreement.

    Source: Bland and Altman 1986, Lancet 327:307: bias ± 1.96 standard deviations of the differences.

    Args:
        title: what is compared, with its unit.
        means: by the case's label, mean of its prediction and of its target.
    """
    points = sorted((fmean(pair), pair[0] - pair[1], label) for label, pair in means.items())
    across, off = (np.array([point[place] for point in points]) for place in (0, 1))
    bias, spread = float(off.mean()), 1.96 * float(off.std(ddof=1)) if len(off) > 1 else 0.0
    figure, axes = _frame(6.6, 2.6, left=0.1, right=0.97)
    axes.axhline(bias, color=_ACCENT, linewidth=1.5)
    for limit in (bias - spread, bias + spread) if spread else ():
        axes.axhline(limit, color=_SOFT, linewidth=1.2, linestyle=(0, (3, 3)))
    axes.plot(across, off, "o", color=_ACCENT, markersize=_DOT, markeredgewidth=0, alpha=0.72)
    axes.set_xlim(*_around(across.min(), across.max()))
    axes.set_ylim(*_around(min(off.min(), bias - spread), max(off.max(), bias + spread)))
    axes.yaxis.set_major_locator(MaxNLocator(4, steps=_STEPS))
    told = f"bias {number(bias)}"
    if spread:
        told += f", limits of agreement {number(bias - spread)} to {number(bias + spread)}"
    dots = [f"{label}: {number(error)}" for _, error, label in points]
    return Chart(title, _svg(figure, title, told, dots), notes=(f"{told[0].upper()}{told[1:]}.",))


def _frame(width: float, height: float, *, left: float, right: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), frameon=False)
    axes = figure.add_axes((left, 0.32 / height, right - left, 1 - 0.44 / height))
    axes.patch.set_visible(False)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[:].set_color(_RULE)
    axes.tick_params(color=_RULE, labelcolor=_SOFT)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=_STEPS))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:.6g}".replace("-", MINUS))
    return figure, axes


def _around(low: float, high: float) -> tuple[float, float]:
    """A range with a margin, also around a single value."""
    margin = 0.05 * (high - low) or abs(low) / 20 or 0.5
    return float(low - margin), float(high + margin)


def _stacked(values: Sequence[float], axes: Axes) -> np.ndarray:
    """How far each dot is off the middle of its row, where rows are 1 apart: alternately below and above."""
    (left, right), points = axes.get_xlim(), 72 * axes.bbox.width / axes.figure.dpi
    wide, high = _DOT * (right - left) / points, _DOT / (0.75 * 72)
    heights: list[float] = []
    for index, value in enumerate(values):
        taken = {height for other, height in zip(values[:index], heights, strict=True) if value - other < wide}
        places = (sign * step * high for step in range(len(values) + 1) for sign in (1, -1))
        heights.append(next(place for place in places if place not in taken))
    return np.clip(heights, -0.42, 0.42)


def _svg(figure: Figure, title: str, description: str, dots: Sequence[str] = ()) -> str:
    """The figure as an element of a page, with a name for each dot under a pointer."""
    for artist in figure.findobj():
        artist.set_clip_on(False)  # nothing lies outside, and a clip path has an id that a page may hold only once
    file = StringIO()
    with warnings.catch_warnings():
        # The reader's browser has the letters that matplotlib's own font lacks.
        warnings.filterwarnings("ignore", message="Glyph", category=UserWarning)
        figure.savefig(file, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :].replace("<svg", '<svg role="img"', 1)
    for noise in _NOISE:
        svg = re.sub(noise, "", svg)
    for colour, of_page in _COLOURS.items():
        svg = svg.replace(colour, of_page)
    names = iter(dots)
    svg = re.sub(
        r"<use ([^>]*fill-opacity[^>]*)/>", lambda use: f"<use {use[1]}><title>{escape(next(names))}</title></use>", svg
    )
    return svg.replace(">", f"><title>{escape(title)}</title><desc>{escape(description)}</desc>", 1)
