"""Tables on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from medtrans.utils.messages import DASH, between, number

__all__ = ["downstream_table", "summary_table"]


def summary_table(summary: Mapping[str, Any], names: Mapping[str, str] | None = None) -> RenderableType:
    """Each metric's mean, SD and 95 % interval beside the trivial baselines, its distribution, and what it is.

    Args:
        summary: the content of `summary.json`.
        names: number of a case to the name it is shown by; the number itself where it is missing.
    """
    means = Table(title=f"{summary['cases']} test cases")
    means.add_column("metric")
    means.add_column("mean ± SD", justify="right")
    means.add_column("95 % interval", justify="right")
    for baseline in summary["baselines"]:
        means.add_column(baseline, justify="right")
    spread = Table()
    for head in ("metric", "median", "quartiles", "n", "worst", "best"):
        spread.add_column(head, justify="left" if head in ("metric", "worst", "best") else "right")
    for name, scores in summary["metrics"].items():
        unit = f" [{scores['unit']}]" if scores["unit"] else ""
        # As text: rich takes what stands in square brackets for markup.
        title = Text(f"{name}{unit} {'↑' if scores['higher_is_better'] else '↓'}")
        means.add_row(
            title,
            f"{number(scores['mean'])} ± {number(scores['sd'])}",
            between(scores["ci95"]) or DASH,
            *(number(scored[name]["mean"]) for scored in summary["baselines"].values()),
        )
        shown = (scores.get(place) for place in ("worst", "best"))
        spread.add_row(
            title,
            number(scores["median"]),
            between(scores.get("quartiles")) or DASH,
            str(scores["n"]),
            *(Text((names or {}).get(label, label) if label else DASH) for label in shown),
        )
    return Group(means, spread, Text("\n".join(_notes(summary))))


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
