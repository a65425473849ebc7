"""The finished runs of a study: what each task by each method left behind."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import yaml

from medtrans.evaluation.run_comparison import compare_runs, run_names
from medtrans.runs.folder import RunFolder
from medtrans.training.costs import read_costs

__all__ = ["METRICS", "Cell", "cells", "equal_time_steps", "verdicts"]

METRICS = ("psnr", "ssim", "nmse", "perceptual_distance", "mae")
SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Cell:
    """One task by one method.

    Args:
        task: the folder's folder.
        method: the folder.
        folder: of the run.
        metrics: of `summary.json`.
        baselines: of `summary.json`, scores of what no network is needed for.
        cases: that were tested.
        costs: of `costs.json`.
        dice: by arm, the mean of all classes' mean Dice; empty where no segmenters were trained.
    """

    task: str
    method: str
    folder: RunFolder
    metrics: Mapping[str, Any]
    baselines: Mapping[str, Any]
    cases: int
    costs: Mapping[str, Any]
    dice: Mapping[str, float]


def cells(root: Path) -> list[Cell]:
    """Every run that has ended, below ROOT/TASK/METHOD, by task and method.

    Raises:
        SystemExit: there is none.
    """
    found = [cell(RunFolder(path.parent)) for path in sorted(root.glob("*/*/status.json")) if is_done(path)]
    if not found:
        raise SystemExit(f"{root}: no run has ended below it; expected {root}/TASK/METHOD")
    return found


def is_done(status: Path) -> bool:
    """Whether a run has ended as it should."""
    return bool(json.loads(status.read_text(encoding="utf-8"))["state"] == "done")


def cell(folder: RunFolder) -> Cell:
    """What a finished run left behind."""
    summary = folder.read_json(folder.summary)
    arms = folder.read_json(folder.downstream)["arms"] if folder.downstream.is_file() else {}
    dice = {
        arm: fmean(scores["mean"] for name, scores in columns.items() if name.startswith("dice"))
        for arm, columns in arms.items()
    }
    return Cell(
        folder.path.parent.name,
        folder.path.name,
        folder,
        summary["metrics"],
        summary["baselines"],
        summary["cases"],
        read_costs(folder.costs),
        dice,
    )


def verdicts(found: list[Cell], reference: str) -> dict[tuple[str, str, str], str]:
    """By task, method and metric, whether the method is better or worse than the reference by Wilcoxon's test on
    paired cases, corrected by Holm within the task; nothing where the test says neither.

    Raises:
        ConfigError: two runs of a task scored other cases, targets or metrics.
    """
    told = {}
    for task in dict.fromkeys(one.task for one in found):
        own = {one.method: one for one in found if one.task == task}
        first = own.pop(reference, None)
        if first is None or not own:
            continue
        shared = [name for name in METRICS if all(name in one.metrics for one in (first, *own.values()))]
        folders = [first.folder.path, *(one.folder.path for one in own.values())]
        compared, methods = compare_runs(folders, shared), dict(zip(run_names(folders), (reference, *own), strict=True))
        for one in compared["comparisons"]:
            p = one["wilcoxon_p_holm"]
            if p is not None and p < SIGNIFICANT:
                told[task, methods[one["run"]], one["metric"]] = "▲" if one["gain"] > 0 else "▼"
    return told


def equal_time_steps(reference: Path, run: Path) -> int:
    """How many steps of `run` take as long as all steps of `reference` did, by what both measured.

    Raises:
        SystemExit: a run has not measured its steps.
    """
    seconds = [seconds_per_step(path) for path in (reference, run)]
    config = yaml.safe_load(RunFolder.existing(reference).config.read_text(encoding="utf-8"))
    return max(1, round(config["train"]["steps"] * seconds[0] / seconds[1]))


def seconds_per_step(run: Path) -> float:
    """What a run has measured."""
    training = read_costs(RunFolder(run).costs).get("training")
    if training is None:
        raise SystemExit(f"{run}: costs.json has no seconds a step; train it first")
    return float(training["seconds_per_step"])
