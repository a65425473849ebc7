"""Tables of scores: on the terminal, and for a comparison of runs as Markdown and as LaTeX."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from medtrans.evaluation.verdict import verdicts
from medtrans.utils.messages import DASH, MINUS, between, inert_markdown, number, probability, signed, signed_between

__all__ = ["as_latex", "as_markdown", "downstream_table", "summary_table"]


def summary_table(summary: Mapping[str, Any], names: Mapping[str, str] | None = None) -> RenderableType:
    """The verdict, then each metric's mean, SD and 95 % interval, the trivial baselines, the distribution, and notes.

    Each table fits a terminal of 80 columns; what is too long for its column goes on below.

    Args:
        summary: the content of `summary.json`.
        names: number of a case to the name it is shown by; the number itself where it is missing.
    """
    scores = {name: _titled(name, found) for name, found in summary["metrics"].items()}
    means = _table("metric", "mean ± SD", "95 % interval", title=f"{summary['cases']} test cases")
    spread = _table("metric", "median", "quartiles", "n", "worst", "best")
    beside = _table("metric", *summary["baselines"], title="mean of the trivial baselines")
    for name, found in summary["metrics"].items():
        mean = f"{number(found['mean'])} ± {number(found['sd'])}"
        means.add_row(scores[name], mean, between(found["ci95"]) or DASH)
        beside.add_row(scores[name], *(number(scored[name]["mean"]) for scored in summary["baselines"].values()))
        shown = (found.get(place) for place in ("worst", "best"))
        spread.add_row(
            scores[name],
            number(found["median"]),
            between(found.get("quartiles")) or DASH,
            str(found["n"]),
            *(Text((names or {}).get(label, label) if label else DASH) for label in shown),
        )
    told = [Text(one["sentence"] + "\n", style="bold") for one in verdicts(summary)] if summary["baselines"] else []
    return Group(*told, means, *([beside] if summary["baselines"] else []), spread, Text("\n".join(_notes(summary))))


def _table(*heads: str, title: str | None = None) -> Table:
    table = Table(title=title)
    for head in heads:
        left = head in ("metric", "worst", "best")
        table.add_column(head, justify="left" if left else "right", overflow="fold")
    return table


def _titled(name: str, scores: Mapping[str, Any]) -> Text:
    """A metric with its unit and direction, as text: rich takes what stands in square brackets for markup."""
    unit = f" [{scores['unit']}]" if scores["unit"] else ""
    return Text(f"{name}{unit} {'↑' if scores['higher_is_better'] else '↓'}")


def _notes(summary: Mapping[str, Any]) -> list[str]:
    protocol = summary.get("protocol", {})
    return [
        *([f"protocol {protocol['name']}: {protocol['about']}"] if protocol else []),
        *(f"{target} scored in {place}" for target, place in summary.get("scored_in", {}).items()),
        *(f"{name}: {scores['definition']}" for name, scores in summary["metrics"].items()),
        *(f"warning: {warning}" for warning in summary.get("warnings", ()) if "95 % interval" in warning),
    ]


def downstream_table(results: Mapping[str, Any]) -> Table:
    """Each arm's mean with its 95 % interval, and its ratio to real images."""
    subjects = results["subjects"]
    table = Table(
        title=f"{results['image']}: segmenters of {subjects['train']} subjects, tested on {subjects['test']}, "
        f"{results['seeds']} seed{'s' if results['seeds'] != 1 else ''}",
        caption=f"{subjects['overlap']} of the {subjects['test']} subjects tested were seen by the translator",
    )
    for name in ("arm", "score", "mean", "95 % interval", "of trtr"):
        table.add_column(name, justify="left" if name in ("arm", "score") else "right")
    for arm, columns in results["arms"].items():
        for place, (name, scores) in enumerate(columns.items()):
            unit = f" ({scores['unit']})" if scores["unit"] else ""
            table.add_row(
                "" if place else arm,
                f"{name}{unit} {'↑' if scores['higher_is_better'] else '↓'}",
                number(scores["mean"]),
                between(scores["ci95"]) or DASH,
                number(scores["ratio"]),
            )
    return table


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
    lines += ["| " + " | ".join(inert_markdown(cell) for cell in row) + " |" for row in _comparison_rows(comparison)]
    return "\n".join([*lines, "", *(f"{inert_markdown(note)}  " for note in _comparison_notes(comparison))]) + "\n"


def as_latex(comparison: Mapping[str, Any]) -> str:
    """The same as a `tabular`, which needs no package, under comments that say what it holds."""
    # A comment ends with its line: what a plugin wrote after a line break would be run.
    lines = [f"% {' '.join(note.split())}" for note in _comparison_notes(comparison)]
    lines += [r"\begin{tabular}{ll" + "r" * (len(_HEADS) - 2) + "}", r"\hline"]
    lines += [" & ".join(_escaped(head) for head in _HEADS) + r" \\", r"\hline"]
    lines += [" & ".join(_escaped(cell) for cell in row) + r" \\" for row in _comparison_rows(comparison)]
    return "\n".join([*lines, r"\hline", r"\end{tabular}"]) + "\n"


def _comparison_rows(comparison: Mapping[str, Any]) -> list[list[str]]:
    rows, last = [], None
    metrics = list(dict.fromkeys(one["metric"] for one in comparison["comparisons"]))
    for one in sorted(comparison["comparisons"], key=lambda one: metrics.index(one["metric"])):
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


def _comparison_notes(comparison: Mapping[str, Any]) -> list[str]:
    protocol = comparison["protocol"]
    of_all = (
        f"{comparison['cases']} cases of {comparison['subjects']} subjects; gains against {comparison['reference']}, "
        "positive where the run is better; 95 % intervals over subjects; d: mean gain over its SD; "
        "two-sided p, corrected by Holm for all comparisons in the table."
    )
    notes = [of_all]
    if protocol:
        notes.append(f"Protocol {protocol['name']}: {protocol['about']}.")
    notes += [f"Scored in ({target}): {place}." for target, place in comparison["scored_in"].items()]
    notes += [one["sentence"] for one in comparison["comparisons"]]
    definitions = {one["metric"]: one["definition"] for one in comparison["comparisons"]}
    return notes + [f"{metric}: {definition}." for metric, definition in definitions.items()]


def _escaped(text: str) -> str:
    text = " ".join(text.split())
    return re.sub("|".join(map(re.escape, _ESCAPES)), lambda found: _ESCAPES[found.group()], text)
