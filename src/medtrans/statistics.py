"""Owns what the scores of many cases say together: means with intervals, and which of two sets is better."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import bootstrap

from medtrans.errors import DataError
from medtrans.faults import listed
from medtrans.protocols import PROTOCOLS

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "CaseScores",
    "Column",
    "bca_interval",
    "compare",
    "describe",
    "mean_interval",
    "summarise",
    "summary_of",
    "worst_median_best",
]

_RESAMPLES = 2000
_CONFIDENCE = 0.95
_FEW = 20


@dataclass(frozen=True)
class CaseScores:
    """The scores of one case.

    Args:
        label: "case_0001": the case's number, which may leave the site.
        case: the case's name, which stays with the data.
        subject: whose it is.
        values: by column; infinite where a metric is (PSNR of identical images), NaN where it is undefined.
        target_sha: of the target the case was scored against.
    """

    label: str
    case: str
    subject: str
    values: Mapping[str, float]
    target_sha: str


@dataclass(frozen=True)
class Column:
    """What a reader must know about one column of scores.

    Args:
        unit: such as "dB" or "HU"; "" for none.
        higher_is_better: the direction.
        definition: the formula in one line.
    """

    unit: str
    higher_is_better: bool
    definition: str


def describe(
    values: Sequence[float], subjects: Sequence[str], *, seed: int = 0, population: bool = False
) -> dict[str, Any]:
    """Mean, standard deviation, median, quartiles and 95 % interval of scores, as JSON can hold them.

    NaN scores (undefined, such as NMSE of a constant target) are left out, and `n` says how many count. What is not
    finite, such as the mean where one PSNR is infinite, is None.

    Args:
        values: a score a case.
        subjects: whose each case is.
        seed: of the bootstrap.
        population: divide by n in the standard deviation, not by n - 1.

    Returns:
        "mean", "sd" (None for fewer than 2 scores), "median", "quartiles" (`[25th, 75th percentile]`), "ci95"
        (`[low, high]` of the mean, or None) and "n".
    """
    defined = [(value, subject) for value, subject in zip(values, subjects, strict=True) if not math.isnan(value)]
    scores = np.array([value for value, _ in defined], dtype=np.float64)
    finite = bool(scores.size and np.isfinite(scores).all())
    median = float(np.median(scores)) if scores.size else math.nan
    # Between an infinite and a finite score there is no number, and numpy warns of it.
    quartiles = np.percentile(scores, (25, 75)).tolist() if finite else None
    return {
        "mean": float(scores.mean()) if finite else None,
        "sd": float(scores.std(ddof=0 if population else 1)) if finite and scores.size > 1 else None,
        "median": median if math.isfinite(median) else None,
        "quartiles": quartiles,
        "ci95": mean_interval(scores, [subject for _, subject in defined], seed=seed) if finite else None,
        "n": int(scores.size),
    }


def mean_interval(values: np.ndarray, subjects: Sequence[str], *, seed: int = 0) -> list[float] | None:
    """The 95 % bootstrap interval of a mean, `[low, high]`; None for fewer than three subjects.

    Subjects are drawn, not cases, since visits of one subject are not independent. The interval is bias-corrected and
    accelerated (BCa), from 2000 draws.

    Args:
        values: finite scores, one a case.
        subjects: whose each case is.
        seed: of the draws: the same scores get the same interval.
    """
    names, owner = np.unique(np.asarray(subjects, dtype=str), return_inverse=True)
    if len(names) < 3:
        return None
    sums = np.bincount(owner, weights=values)
    counts = np.bincount(owner).astype(np.float64)
    if np.ptp(sums / counts) == 0:
        return [float(values.mean())] * 2

    def mean(sums: np.ndarray, counts: np.ndarray, axis: int = -1) -> Any:
        return sums.sum(axis=axis) / counts.sum(axis=axis)

    return bca_interval((sums, counts), mean, seed=seed)


def bca_interval(samples: Sequence[np.ndarray], statistic: Callable[..., Any], *, seed: int = 0) -> list[float] | None:
    """The 95 % bootstrap interval (BCa, 2000 draws) of a statistic; None where the draws hardly differ.

    Args:
        samples: arrays `(n,)` that are drawn together.
        statistic: of as many arrays `(..., n)` and an `axis`.
        seed: of the draws.
    """
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        # Draws that hardly differ can give NaN and a warning: the interval is then None, which says it better.
        warnings.simplefilter("ignore")
        interval = bootstrap(
            tuple(samples),
            statistic,
            paired=True,
            vectorized=True,
            n_resamples=_RESAMPLES,
            batch=200,
            confidence_level=_CONFIDENCE,
            method="BCa",
            random_state=np.random.default_rng(seed),
        ).confidence_interval
    bounds = [float(interval.low), float(interval.high)]
    return bounds if all(map(math.isfinite, bounds)) else None


def summarise(
    rows: Sequence[CaseScores], columns: Mapping[str, Column], *, seed: int = 0, population: bool = False
) -> dict[str, dict[str, Any]]:
    """The scores of a cohort by column: what `describe` gives, "worst" and "best" case by number, and the column."""
    subjects = [row.subject for row in rows]
    return {
        name: {
            **describe([row.values[name] for row in rows], subjects, seed=seed, population=population),
            **_extremes(rows, name, column),
            "unit": column.unit,
            "higher_is_better": column.higher_is_better,
            "definition": column.definition,
        }
        for name, column in columns.items()
    }


def compare(
    rows: Sequence[CaseScores], others: Sequence[CaseScores], name: str, column: Column, *, seed: int = 0
) -> dict[str, Any]:
    """How much better `rows` score than `others` on the same cases, in the mean; positive is better.

    Args:
        rows: scores of one way to predict.
        others: scores of another, of the same cases in any order.
        name: the column.
        column: its direction and unit.
        seed: of the bootstrap.

    Returns:
        The description of the differences a case, with "unit" and "better", the number of cases that score better.

    Raises:
        DataError: the two sets hold different cases, or scored them against different targets.
    """
    theirs = {row.case: row for row in others}
    missing = [row.label for row in rows if row.case not in theirs]
    if missing or len(theirs) != len(rows):
        raise DataError(
            f"Only the same cases can be compared: {len(rows)} cases here, {len(theirs)} there, and {len(missing)} of "
            f"those here are missing there (first: {', '.join(missing[:3]) or 'none'})."
        )
    changed = [row.label for row in rows if row.target_sha != theirs[row.case].target_sha]
    if changed:
        raise DataError(
            f"{len(changed)} cases were scored against different targets (first: {', '.join(changed[:3])}): evaluate "
            "both again on the same files."
        )
    sign = 1.0 if column.higher_is_better else -1.0
    # Two infinite scores are equal; their difference would be NaN and the case lost.
    pairs = [(row.values[name], theirs[row.case].values[name]) for row in rows]
    differences = [0.0 if mine == other else sign * (mine - other) for mine, other in pairs]
    return {
        **describe(differences, [row.subject for row in rows], seed=seed),
        "unit": column.unit,
        "better": sum(difference > 0 for difference in differences),
    }


def summary_of(
    rows: Sequence[CaseScores],
    baselines: Mapping[str, Sequence[CaseScores]],
    columns: Mapping[str, Column],
    *,
    warnings: Sequence[str] = (),
    seed: int = 0,
    protocol: str = "native",
    scored_in: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """All of `summary.json`.

    Args:
        rows: the model's scores.
        baselines: those of the trivial baselines, by name.
        columns: what each column holds.
        warnings: of the run; one is added where intervals come from few subjects.
        seed: of the bootstrap.
        protocol: the way of scoring.
        scored_in: by target, the intensities that scores refer to.

    Returns:
        "cases", "protocol", "scored_in", "metrics", "baselines", "warnings" and "comparison": by column the best
        baseline's name under "baseline" with what `compare` says of the model against it.
    """
    published = PROTOCOLS[protocol]
    best = {name: _best(baselines, name, column) for name, column in columns.items()}
    return {
        "cases": len(rows),
        "protocol": {"name": protocol, "about": published.about},
        "scored_in": dict(scored_in or {}),
        "metrics": summarise(rows, columns, seed=seed, population=published.population_sd),
        "baselines": {
            baseline: summarise(scores, columns, seed=seed, population=published.population_sd)
            for baseline, scores in baselines.items()
        },
        "comparison": {
            name: {"baseline": baseline, **compare(rows, baselines[baseline], name, columns[name], seed=seed)}
            for name, baseline in best.items()
            if baseline is not None
        },
        "warnings": [*warnings, *_few_subjects(rows, columns)],
    }


def worst_median_best(rows: Sequence[CaseScores], name: str, column: Column) -> dict[str, CaseScores]:
    """The cases to look at: "worst", "median" and "best" by one column; fewer where there are fewer cases."""
    sign = 1.0 if column.higher_is_better else -1.0
    ranked = sorted((row for row in rows if not math.isnan(row.values[name])), key=lambda row: sign * row.values[name])
    if len(ranked) < 3:
        return dict(zip(("worst", "best"), ranked, strict=False))
    return {"worst": ranked[0], "median": ranked[len(ranked) // 2], "best": ranked[-1]}


def _extremes(rows: Sequence[CaseScores], name: str, column: Column) -> dict[str, str | None]:
    chosen = worst_median_best(rows, name, column)
    return {place: chosen[place].label if place in chosen else None for place in ("worst", "best")}


def _few_subjects(rows: Sequence[CaseScores], columns: Mapping[str, Column]) -> list[str]:
    """The warning that intervals of few subjects are too narrow."""
    subjects = {name: len({row.subject for row in rows if not math.isnan(row.values[name])}) for name in columns}
    few = [name for name, count in subjects.items() if 0 < count < _FEW]
    if not few:
        return []
    fewest = min(subjects[name] for name in few)
    told = f"a 95 % interval from fewer than {_FEW} misses the true mean more often than 1 time in 20"
    return [f"{listed(few)}: scores of {fewest} subject{'s' if fewest != 1 else ''}; {told}"]


def _best(baselines: Mapping[str, Sequence[CaseScores]], name: str, column: Column) -> str | None:
    sign = 1.0 if column.higher_is_better else -1.0
    means = {}
    for baseline, rows in baselines.items():
        defined = [row.values[name] for row in rows if not math.isnan(row.values[name])]
        if defined:
            means[baseline] = sign * sum(defined) / len(defined)
    return max(means, key=lambda baseline: means[baseline]) if means else None
