"""The comparison of scored runs: which may be compared, and by how much each is better than the first."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from medtrans.errors import ConfigError, DataError
from medtrans.evaluation.scores import CaseScores, read_metrics_csv
from medtrans.evaluation.statistics import holm, mean_interval, sign_flip_p, standardised_effect, wilcoxon_p
from medtrans.evaluation.verdict import verdict_on
from medtrans.utils.messages import capped, did_you_mean, listed

__all__ = ["compare_runs", "run_names"]


_STATED = ("unit", "higher_is_better", "definition")


def run_names(folders: Sequence[Path]) -> list[str]:
    """What runs are called where others may read it: a number, generator and method; never their folders."""
    return [f"run {place}{_kind(folder / 'config.yaml')}" for place, folder in enumerate(folders, 1)]


def _kind(path: Path) -> str:
    """Generator and method of a run in brackets; nothing for scores that no run left."""
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        kinds = [config[slot]["name"].removeprefix("builtin:") for slot in ("generator", "method")]
    except (OSError, ValueError, yaml.YAMLError, LookupError, TypeError, AttributeError, RecursionError):
        return ""
    return f" ({', '.join(kinds)})"


@dataclass(frozen=True)
class _Scored:
    name: str
    folder: Path
    rows: Mapping[str, CaseScores]
    summary: Mapping[str, Any]


def compare_runs(folders: Sequence[Path], metrics: Sequence[str] = (), *, seed: int = 0) -> dict[str, Any]:
    """How much better each further run is than the first, case by case.

    Gains are positive where the further run is better, in the direction of the metric. Several cases of a subject are
    averaged before a test, since they are not independent. The p-values of each of the two tests are corrected by Holm
    for all comparisons made here.

    Args:
        folders: with `metrics.csv` and `summary.json`, as runs and `medtrans evaluate` leave them.
        metrics: columns to compare; all where none is given.
        seed: of bootstrap and permutations.

    Returns:
        "reference" and "runs" (names from `run_names`), "cases", "subjects", "protocol", "scored_in", and
        "comparisons": for each further run and column "run", "metric", "unit", "higher_is_better", "definition",
        "reference_mean", "run_mean", "gain" (its mean), "ci95", "effect" (Cohen's d of the gains), "effect_ci95",
        "wilcoxon_p", "wilcoxon_p_holm", "permutation_p", "permutation_p_holm", "better" (cases), "n" (cases),
        and "outcome" and "sentence" of `verdict_on`. What is not finite is None.

    Raises:
        ConfigError: fewer than two folders, one without scores, or an unknown metric.
        DataError: the runs do not have the same cases, targets and definitions; all that differs is named.
    """
    if len(folders) < 2:
        raise ConfigError(f"compare needs at least two runs, found {len(folders)}")
    first, *others = (_read(folder, name) for folder, name in zip(folders, run_names(folders), strict=True))
    columns = _chosen([first, *others], metrics)
    faults = [fault for other in others for fault in _differences(first, other, columns)]
    if faults:
        raise DataError(*faults)
    compared = [_compared(first, other, column, seed) for other in others for column in columns]
    for test in ("wilcoxon_p", "permutation_p"):
        known = [one for one in compared if one[test] is not None]
        for one, corrected in zip(known, holm([one[test] for one in known]), strict=True):
            one[f"{test}_holm"] = corrected
    for one in compared:
        one |= verdict_on(one, first.name)
    return {
        "reference": first.name,
        "runs": [other.name for other in others],
        "cases": len(first.rows),
        "subjects": len({row.subject for row in first.rows.values()}),
        "protocol": first.summary.get("protocol", {}),
        "scored_in": first.summary.get("scored_in", {}),
        "comparisons": compared,
    }


def _read(folder: Path, name: str) -> _Scored:
    scores, summary = folder / "metrics.csv", folder / "summary.json"
    missing = [path.name for path in (scores, summary) if not path.is_file()]
    if missing:
        raise ConfigError(
            f"{folder}: holds no scores, {' and '.join(missing)} missing; give the folder of an evaluated run, or what "
            "medtrans evaluate --output left"
        )
    try:
        told = json.loads(summary.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{summary}: is damaged ({error}); evaluate the run again") from error
    if not isinstance(told, dict) or not isinstance(told.get("metrics"), dict):
        raise ConfigError(f"{summary}: holds no metrics; evaluate the run again")
    return _Scored(name, folder, {row.case: row for row in read_metrics_csv(scores)}, told)


def _chosen(runs: Sequence[_Scored], metrics: Sequence[str]) -> list[str]:
    columns = list(dict.fromkeys(name for run in runs for name in run.summary["metrics"]))
    unknown = [name for name in metrics if name not in columns]
    if unknown:
        raise ConfigError(*(f"--metric {name}: no such column{did_you_mean(name, columns)}" for name in unknown))
    return list(dict.fromkeys(metrics)) or columns


def _differences(first: _Scored, other: _Scored, columns: Sequence[str]) -> list[str]:
    """Why two runs cannot be compared; nothing where they can."""
    pair = f"{first.folder} and {other.folder}"
    faults = [
        f"{pair}: {len(lacking)} cases of {one.folder} are missing in {another.folder}: {listed(lacking)}"
        for one, another in ((first, other), (other, first))
        if (lacking := [case for case in one.rows if case not in another.rows])
    ]
    moved = [
        case for case, row in first.rows.items() if case in other.rows and row.target_sha != other.rows[case].target_sha
    ]
    if moved:
        faults.append(
            f"{pair}: {len(moved)} cases were scored against different targets: {listed(moved)}; evaluate both on the "
            "same files"
        )
    for place in ("protocol", "scored_in"):
        here, there = _stated(first, place), _stated(other, place)
        if here != there:
            faults.append(f"{pair}: {place} differs: {here} and {there}")
    return faults + capped(
        [fault for column in columns if (fault := _column_fault(first, other, column, pair)) is not None]
    )


def _stated(run: _Scored, place: str) -> str:
    told = run.summary.get(place, {})
    return str(told.get("name")) if place == "protocol" else "; ".join(map(str, told.values()))


def _column_fault(first: _Scored, other: _Scored, column: str, pair: str) -> str | None:
    mine, theirs = (run.summary["metrics"].get(column) for run in (first, other))
    if mine is None or theirs is None:
        lacking = first.folder if mine is None else other.folder
        return f"{pair}: {lacking} has no {column}; choose columns that both have with --metric"
    differing = [key for key in _STATED if mine.get(key) != theirs.get(key)]
    if not differing:
        return None
    told = "; ".join(f"{key}: {mine.get(key)!r} and {theirs.get(key)!r}" for key in differing)
    return f"{pair}: {column} is not the same score, {told}"


def _compared(first: _Scored, other: _Scored, column: str, seed: int) -> dict[str, Any]:
    stated = first.summary["metrics"][column]
    sign = 1.0 if stated["higher_is_better"] else -1.0
    pairs = [
        (row.values[column], other.rows[case].values[column], row.subject)
        for case, row in first.rows.items()
        if not (math.isnan(row.values[column]) or math.isnan(other.rows[case].values[column]))
    ]
    # Two infinite scores are equal; their difference would be NaN.
    gains = np.array([0.0 if here == there else sign * (there - here) for here, there, _ in pairs])
    subjects = [subject for *_, subject in pairs]
    finite = bool(gains.size) and bool(np.isfinite(gains).all())
    by_subject = _subject_means(gains, subjects) if finite else np.empty(0)
    effect = standardised_effect(by_subject, seed=seed) if finite else {"d": None, "ci95": None}
    return {
        "run": other.name,
        "metric": column,
        **{key: stated[key] for key in _STATED},
        "reference_mean": _mean([here for here, _, _ in pairs]),
        "run_mean": _mean([there for _, there, _ in pairs]),
        "gain": float(gains.mean()) if finite else None,
        "ci95": mean_interval(gains, subjects, seed=seed) if finite else None,
        "effect": effect["d"],
        "effect_ci95": effect["ci95"],
        "wilcoxon_p": float(wilcoxon_p(by_subject)) if finite else None,
        "wilcoxon_p_holm": None,
        "permutation_p": float(sign_flip_p(by_subject, seed=seed)) if finite else None,
        "permutation_p_holm": None,
        "better": int((gains > 0).sum()),
        "n": len(pairs),
    }


def _subject_means(gains: np.ndarray, subjects: Sequence[str]) -> np.ndarray:
    _, owner = np.unique(np.asarray(subjects, dtype=str), return_inverse=True)
    return np.asarray(np.bincount(owner, weights=gains) / np.bincount(owner))


def _mean(values: Sequence[float]) -> float | None:
    mean = float(np.mean(values)) if values else math.nan
    return mean if math.isfinite(mean) else None
