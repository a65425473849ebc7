"""The tables of a comparison of runs, as Markdown and as LaTeX."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medtrans.errors import SetupError
from medtrans.utils.files import write_text
from medtrans.utils.messages import DASH, MINUS, number, probability, signed, signed_between

__all__ = ["as_latex", "as_markdown", "write_tables"]


_HEADS = (
    "metric", "run", "mean", "gain", "95 % interval", "d", "95 % interval of d", "better", "Wilcoxon p",
    "permutation p",
)  # fmt: skip
_ESCAPES = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    DASH: "--", MINUS: "$-$", "∞": r"$\infty$",
}  # fmt: skip


def as_markdown(comparison: Mapping[str, Any]) -> str:
    """The comparison that `run_comparison.compare_runs` gave, with what a reader needs below it."""
    lines = [
        "| " + " | ".join(_HEADS) + " |",
        "|" + "|".join("---" if column < 2 else "---:" for column in range(len(_HEADS))) + "|",
    ]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in _rows(comparison)]
    return "\n".join([*lines, "", *(f"{note}  " for note in _notes(comparison))]) + "\n"


def as_latex(comparison: Mapping[str, Any]) -> str:
    """The same as a `tabular`, which needs no package, under comments that say what it holds."""
    lines = [f"% {note}" for note in _notes(comparison)]
    lines += [r"\begin{tabular}{ll" + "r" * (len(_HEADS) - 2) + "}", r"\hline"]
    lines += [" & ".join(_escaped(head) for head in _HEADS) + r" \\", r"\hline"]
    lines += [" & ".join(_escaped(cell) for cell in row) + r" \\" for row in _rows(comparison)]
    return "\n".join([*lines, r"\hline", r"\end{tabular}"]) + "\n"


def write_tables(folder: Path, texts: Mapping[str, str]) -> None:
    """Write comparison.md, .tex and .json, each whole or not at all; what is there is replaced.

    Args:
        folder: made if need be.
        texts: "markdown", "latex" and "json" to the text.

    Raises:
        SetupError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for kind, ending in (("markdown", "md"), ("latex", "tex"), ("json", "json")):
            write_text(folder / f"comparison.{ending}", texts[kind])
    except OSError as error:
        raise SetupError(f"{folder}: cannot be written ({error.strerror}); choose another --output") from error


def _rows(comparison: Mapping[str, Any]) -> list[list[str]]:
    rows, last = [], None
    for one in sorted(comparison["comparisons"], key=lambda one: _place(comparison, one["metric"])):
        unit = f" [{one['unit']}]" if one["unit"] else ""
        metric = f"{one['metric']}{unit} {'(higher)' if one['higher_is_better'] else '(lower)'}"
        if one["metric"] != last:
            rows.append([metric, comparison["reference"], number(one["reference_mean"]), *[""] * 7])
            last = one["metric"]
        rows.append(
            [
                "", one["run"], number(one["run_mean"]), signed(one["gain"]), signed_between(one["ci95"]) or DASH,
                signed(one["effect"]), signed_between(one["effect_ci95"]) or DASH, f"{one['better']} of {one['n']}",
                probability(one["wilcoxon_p_holm"]), probability(one["permutation_p_holm"]),
            ]
        )  # fmt: skip
    return rows


def _place(comparison: Mapping[str, Any], metric: str) -> int:
    return list(dict.fromkeys(one["metric"] for one in comparison["comparisons"])).index(metric)


def _notes(comparison: Mapping[str, Any]) -> list[str]:
    protocol = comparison["protocol"]
    of_all = (
        f"{comparison['cases']} cases of {comparison['subjects']} subjects; gains against {comparison['reference']}, "
        "positive where the run is better; 95 % intervals by BCa bootstrap over subjects; d: mean gain over its SD; "
        "two-sided p, corrected by Holm for all comparisons in the table."
    )
    notes = [of_all]
    if protocol:
        notes.append(f"Protocol {protocol['name']}: {protocol['about']}.")
    notes += [f"Scored in ({target}): {place}." for target, place in comparison["scored_in"].items()]
    definitions = {one["metric"]: one["definition"] for one in comparison["comparisons"]}
    return notes + [f"{metric}: {definition}." for metric, definition in definitions.items()]


def _escaped(text: str) -> str:
    return re.sub("|".join(map(re.escape, _ESCAPES)), lambda found: _ESCAPES[found.group()], text)
