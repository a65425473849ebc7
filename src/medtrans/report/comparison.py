"""The page that compares several runs: their scores side by side, case by case, and what they differ in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from medtrans.config.experiment import differences
from medtrans.data.anonymize import shareable_config
from medtrans.errors import ConfigError, DataError, SetupError
from medtrans.evaluation.run_comparison import run_names
from medtrans.evaluation.scores import CaseScores, Column, read_metrics_csv
from medtrans.evaluation.statistics import compare
from medtrans.report.charts import strip_chart
from medtrans.report.page import downstream_part, faithfulness_part, page_of, scores_table
from medtrans.report.run_report import report_facts
from medtrans.runs.folder import RunFolder
from medtrans.utils.files import write_text
from medtrans.utils.messages import between, signed

__all__ = ["write_comparison"]


@dataclass(frozen=True)
class _Run:
    """What a page needs of one run."""

    name: str
    folder: RunFolder
    config: Mapping[str, Any]
    summary: Mapping[str, Any]
    rows: Sequence[CaseScores]


def write_comparison(folders: Sequence[RunFolder], output: Path) -> Path:
    """Write a page that compares evaluated runs; like a run's report it holds case numbers, no names and no paths.

    Columns that not all runs have in the same unit and by the same definition are left out, and the page says so.
    Gains are paired by case against the first run, where both scored the same cases against the same targets.

    Args:
        folders: of two runs or more.
        output: the HTML file.

    Raises:
        ConfigError: a run has not been evaluated, is given twice, or the runs share no column.
        SetupError: the file cannot be written.
    """
    if len({folder.path.resolve() for folder in folders}) != len(folders):
        raise ConfigError("report: a run is given twice; give each once")
    if not output.parent.is_dir():
        raise ConfigError(f"--output {output}: there is no folder {output.parent}; make it, or correct the path")
    names = run_names([folder.path for folder in folders])
    runs = [_read(name, folder) for name, folder in zip(names, folders, strict=True)]
    columns, left_out = _shared_columns(runs)
    if not columns:
        raise ConfigError(
            "report: the runs share no score of one unit and definition; evaluate them by the same metrics"
        )
    first = runs[0]
    page = page_of(
        "comparison.html.j2",
        runs=[{"name": run.name, "facts": report_facts(run.folder, run.config)} for run in runs],
        columns={name: first.summary["metrics"][name] for name in columns},
        left_out=left_out,
        scores=scores_table({run.name: {name: run.summary["metrics"][name] for name in columns} for run in runs}),
        gains=[{"name": run.name, **_gains(first, run, columns)} for run in runs[1:]],
        strips=[
            strip_chart(
                f"{name} [{column.unit}]" if column.unit else name,
                {run.name: [(row.label, row.values[name]) for row in run.rows] for run in runs},
            )
            for name, column in columns.items()
        ],
        faithfulness=[
            {"name": run.name, "rows": faithfulness_part(run.folder.read_json(run.folder.faithfulness))}
            for run in runs
            if run.folder.faithfulness.is_file()
        ],
        downstream=[
            {"name": run.name, **downstream_part(run.folder.read_json(run.folder.downstream))}
            for run in runs
            if run.folder.downstream.is_file()
        ],
        changes=[
            {"name": run.name, "lines": differences(shareable_config(first.config), shareable_config(run.config))}
            for run in runs[1:]
        ],
        warnings=[(run.name, warning) for run in runs for warning in run.summary["warnings"]],
    )
    try:
        write_text(output, page)
    except OSError as error:
        raise SetupError(f"--output {output}: cannot be written ({error.strerror}); choose another file") from error
    return output


def _read(name: str, folder: RunFolder) -> _Run:
    summary = folder.read_json(folder.summary)
    config = yaml.safe_load(folder.config.read_text(encoding="utf-8"))
    return _Run(name, folder, config, summary, read_metrics_csv(folder.metrics))


def _shared_columns(runs: Sequence[_Run]) -> tuple[dict[str, Column], list[str]]:
    every = dict.fromkeys(name for run in runs for name in run.summary["metrics"])
    columns, left_out = {}, []
    for name in every:
        kinds = {
            tuple(run.summary["metrics"].get(name, {}).get(key) for key in ("unit", "higher_is_better", "definition"))
            for run in runs
        }
        kind = kinds.pop()
        if kinds or None in kind:
            left_out.append(name)
        else:
            columns[name] = Column(*kind)
    return columns, left_out


def _gains(first: _Run, run: _Run, columns: Mapping[str, Column]) -> dict[str, Any]:
    """How much better a run is than the first, by column; or why that cannot be said."""
    try:
        found = {name: compare(run.rows, first.rows, name, column) for name, column in columns.items()}
    except DataError as error:
        return {"cells": [], "problem": str(error)}
    return {
        "cells": [
            {
                "mean": signed(one["mean"]),
                "interval": between(one["ci95"]),
                "better": f"better in {one['better']} of {one['n']}",
                "tone": _tone(one["ci95"]),
            }
            for one in found.values()
        ],
        "problem": "",
    }


def _tone(interval: Sequence[float] | None) -> str:
    if interval is None or interval[0] <= 0 <= interval[1]:
        return "open"
    return "good" if interval[0] > 0 else "bad"
