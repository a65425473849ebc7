"""Words and numbers for readers: faults in one clause, lists cut short, the nearest known name, rounded scores."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

_SPELT_OUT = 20  # faults of one kind; the others are counted

_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "text",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "dataclass_type": "a mapping",
    "path_type": "a path",
    "none_required": "null",
}


def visible(text: str) -> str:
    """A text for a terminal or a log: what steers a terminal, or is no Unicode, is shown by its code.

    Names of files may hold any bytes: an escape sequence would run in the reader's terminal, and a byte that is no
    UTF-8 can be written nowhere.
    """
    return "".join(
        one if one.isprintable() or one in "\n\t" else one.encode("unicode_escape").decode("ascii") for one in text
    )


class VisibleFormatter(logging.Formatter):
    """Log records with `visible` text."""

    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record))


def duration_text(seconds: float) -> str:
    """A length of time as a reader says it: `45 s`, `3 min`, `5 h 06 min`, `3 d 4 h`."""
    minutes, hours = round(seconds / 60), round(seconds / 3600)
    if seconds < 59.5:
        return f"{max(seconds, 0):.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    if hours < 48:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{hours // 24} d {hours % 24} h"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the nearest known name, or nothing."""
    folded = {candidate.casefold(): candidate for candidate in known}
    near = get_close_matches(name.casefold(), folded, n=1, cutoff=0.5)
    return f"; did you mean '{folded[near[0]]}'?" if near else ""


def listed(names: Sequence[str]) -> str:
    """The first three names and how many more there are."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def capped(faults: list[str]) -> list[str]:
    """The first twenty faults of one kind and how many more there are."""
    more = len(faults) - _SPELT_OUT
    return faults if more <= 0 else [*faults[:_SPELT_OUT], f"... and {more} more of this kind"]


def wording(error: Mapping[str, Any], known: Sequence[str] = ()) -> str:
    """An item of pydantic's `ValidationError.errors()` as a clause after "field: "; `known` are the names there."""
    kind, found, context = error["type"], error.get("input"), error.get("ctx", {})
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        listing = f" (known here: {', '.join(known)})" if known else ""
        return f"unknown key{did_you_mean(str(error['loc'][-1]), known)}{listing}"
    if kind in ("missing", "missing_argument"):
        return "is required and missing"
    return f"{_expectation(kind, error, context)}, found {_shown(found)}{_yaml_hint(found)}"


def _expectation(kind: str, error: Mapping[str, Any], context: Mapping[str, Any]) -> str:
    if kind in _EXPECTED:
        return f"expected {_EXPECTED[kind]}"
    bounds = {"greater_than": "gt", "greater_than_equal": "ge", "less_than": "lt", "less_than_equal": "le"}
    signs = {"greater_than": ">", "greater_than_equal": ">=", "less_than": "<", "less_than_equal": "<="}
    if kind in bounds:
        return f"expected a number {signs[kind]} {context[bounds[kind]]:g}"
    if kind == "literal_error":
        return f"expected one of {context['expected']}"
    if kind == "value_error":
        return str(context["error"])
    if kind in ("too_short", "too_long"):
        least, most = context.get("min_length"), context.get("max_length")
        bound = f"at least {least}" if kind == "too_short" else f"at most {most}"
        return f"expected {bound} items, found {context['actual_length']}"
    return f"expected {str(error['msg']).removeprefix('Input should be ')}"


def _shown(found: Any) -> str:
    text = repr(found)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _yaml_hint(found: Any) -> str:
    if isinstance(found, bool):
        return " (YAML reads yes, no, on and off as true and false: quote them to mean text)"
    return ""


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


def duration(seconds: float) -> str:
    """Seconds in the unit that a reader would choose: "0.25 s", "12.5 minutes", "3.2 hours"."""
    for least, unit in ((7200, "hours"), (120, "minutes")):
        if seconds >= least:
            return f"{seconds / (3600 if unit == 'hours' else 60):,.1f} {unit}"
    return f"{seconds:.3g} s"


# What begins something in Markdown: HTML, an entity, a link or its definition, a bare address, emphasis, code, a
# formula, the next cell, and at the beginning of a line a heading, a quotation or a list.
_MARKS = re.compile(r"[\\`*~$|]|<(?=[A-Za-z/!?])|&(?=#?\w+;)|\](?=[(\[:])|:(?=//)|(?<=www)\.|(?<!\w)_|_(?!\w)|^[#>=-]")


def inert_markdown(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    return _MARKS.sub(r"\\\g<0>", " ".join(text.split()))
