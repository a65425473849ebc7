"""The page that compares several runs: their scores side by side, case by case, and what they differ in."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medtrans.config.experiment import differences
from medtrans.data.anonymize import shareable_config
from medtrans.errors import ConfigError, DataError, SetupError
from medtrans.evaluation.run_comparison import compare_runs, run_names
from medtrans.evaluation.scores import CaseScores, Column, read_metrics_csv
from medtrans.evaluation.verdict import verdict_on
from medtrans.report.charts import strip_chart
from medtrans.report.page import TONES, downstream_part, faithfulness_part, page_of, scores_table
from medtrans.report.run_report import report_facts, shown_cases
from medtrans.runs.folder import RunFolder
from medtrans.utils.files import write_text
from medtrans.utils.messages import between, probability, signed

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
        gains=_gains(runs, columns),
        pictured=_pictured(runs),
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
    config = folder.read_config()
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


def _gains(runs: Sequence[_Run], columns: Mapping[str, Column]) -> list[dict[str, Any]]:
    """How much better each further run is than the first, by column, in words too; or that it cannot be said."""
    first, *others = runs
    alike = [run for run in others if _alike(first, run, columns)]
    found = compare_runs([run.folder.path for run in (first, *alike)], list(columns))["comparisons"] if alike else []
    by_run = {run.name: found[place * len(columns) :][: len(columns)] for place, run in enumerate(alike)}
    return [
        {
            "name": run.name,
            "problem": "" if run in alike else _UNLIKE,
            "cells": [
                {
                    "mean": signed(one["gain"]),
                    "interval": between(one["ci95"]),
                    "better": f"better in {one['better']} of {one['n']}",
                    "p": f"p {probability(one['permutation_p_holm'])}",
                    "tone": TONES[one["outcome"]],
                }
                for one in by_run.get(run.name, ())
            ],
            "verdicts": [
                {"text": verdict["sentence"], "tone": TONES[verdict["outcome"]]}
                for one in by_run.get(run.name, ())
                for verdict in [verdict_on({**one, "run": run.name}, first.name)]
            ],
        }
        for run in others
    ]


_UNLIKE = (
    "other cases, targets, protocol or intensities of scores than the first; medtrans compare names all that differs"
)


def _alike(first: _Run, run: _Run, columns: Mapping[str, Column]) -> bool:
    try:
        compare_runs([first.folder.path, run.folder.path], list(columns))
    except DataError:
        return False
    return True


def _pictured(runs: Sequence[_Run]) -> list[dict[str, Any]]:
    """The cases that two runs or more keep a picture of, by the first one's number, each run's picture beside the
    others'."""
    cases: dict[str, list[dict[str, str]]] = {}
    labels: dict[str, str] = {}
    for run in runs:
        by_label = {row.label: row.case for row in run.rows}
        for _, label, path in shown_cases(run.folder):
            if label in by_label:
                labels.setdefault(by_label[label], label)
                data = base64.b64encode(path.read_bytes()).decode("ascii")
                cases.setdefault(by_label[label], []).append({"name": run.name, "data": data})
    return [{"label": labels[case], "pictures": each} for case, each in sorted(cases.items()) if len(each) > 1]
