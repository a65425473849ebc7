"""Owns tables on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

__all__ = ["summary_table"]


def summary_table(summary: Mapping[str, Any]) -> Table:
    """Mean, standard deviation and 95 % interval of each metric, beside the trivial baselines' means."""
    table = Table(title=f"{summary['cases']} test cases")
    table.add_column("metric")
    table.add_column("mean ± SD", justify="right")
    table.add_column("95 % interval", justify="right")
    for baseline in summary["baselines"]:
        table.add_column(baseline, justify="right")
    for name, scores in summary["metrics"].items():
        unit = f" [{scores['unit']}]" if scores["unit"] else ""
        interval = scores["ci95"]
        table.add_row(
            f"{name}{unit} {'↑' if scores['higher_is_better'] else '↓'}",
            f"{_number(scores['mean'])} ± {_number(scores['sd'])}",
            f"{_number(interval[0])} to {_number(interval[1])}" if interval else "–",
            *(_number(scored[name]["mean"]) for scored in summary["baselines"].values()),
        )
    return table


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"
