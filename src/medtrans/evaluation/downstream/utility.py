"""What segmenters' scores say of synthetic images: each arm with intervals, and its ratio to real images."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import median
from typing import Any

import numpy as np
from scipy.stats import bootstrap

from medtrans.evaluation.scores import CaseScores, Column
from medtrans.evaluation.statistics import describe

__all__ = ["ARMS", "arm_summary", "averaged_over_seeds", "ratio_of_means"]


ARMS: Mapping[str, str] = {
    "trtr": "trained on real images, tested on real images: the bound",
    "tstr": "trained on synthetic images with real labels, tested on real images",
    "trts": "trained on real images, tested on synthetic images",
    "tsrtr": "trained on real and synthetic images, tested on real images",
}
"""What each arm is, in the order of a table."""

_RESAMPLES = 2000


def arm_summary(
    scores: Mapping[str, Sequence[Sequence[CaseScores]]], columns: Mapping[str, Column], *, seed: int = 0
) -> dict[str, dict[str, dict[str, Any]]]:
    """Each arm's scores by column, as JSON can hold them.

    Args:
        scores: by arm, for each seed the scores of the same cases; with an arm "trtr".
        columns: of the scores.
        seed: of the bootstraps.

    Returns:
        By arm and column: what `describe` says of the cases' means over seeds, with "by_seed" (the mean over cases of
        each seed), "median_of_seeds", "ratio" and "ratio_ci95" of the mean to that of "trtr", "unit" and
        "higher_is_better". The interval of a ratio draws subjects, the same of both arms.
    """
    means = {arm: averaged_over_seeds(by_seed) for arm, by_seed in scores.items()}
    return {
        arm: {
            name: {
                **describe([row.values[name] for row in rows], [row.subject for row in rows], seed=seed),
                "by_seed": (by_seed := [float(np.mean([row.values[name] for row in one])) for one in scores[arm]]),
                "median_of_seeds": median(by_seed),
                **_ratio(rows, means["trtr"], name, seed),
                "unit": column.unit,
                "higher_is_better": column.higher_is_better,
                "definition": column.definition,
            }
            for name, column in columns.items()
        }
        for arm, rows in means.items()
    }


def averaged_over_seeds(by_seed: Sequence[Sequence[CaseScores]]) -> list[CaseScores]:
    """The mean of each case's scores over the seeds."""
    return [
        replace(rows[0], values={name: float(np.mean([row.values[name] for row in rows])) for name in rows[0].values})
        for rows in zip(*by_seed, strict=True)
    ]


def ratio_of_means(
    values: Sequence[float], others: Sequence[float], subjects: Sequence[str], *, seed: int = 0
) -> tuple[float | None, list[float] | None]:
    """mean(values) / mean(others) over the same cases, and its 95 % interval (percentiles of 2000 draws of subjects).

    Returns:
        The ratio, None where the mean of `others` is 0; the interval, None for fewer than three subjects or where a
        draw has no ratio.
    """
    names, owner = np.unique(np.asarray(subjects, dtype=str), return_inverse=True)
    above, below = (np.bincount(owner, weights=np.asarray(each, dtype=float)) for each in (values, others))
    if below.sum() == 0:
        return None, None
    ratio = float(above.sum() / below.sum())
    if len(names) < 3:
        return ratio, None

    def of_sums(above: np.ndarray, below: np.ndarray, axis: int = -1) -> Any:
        return above.sum(axis=axis) / below.sum(axis=axis)

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # a draw without a ratio gives NaN, and the interval is then None
        interval = bootstrap(
            (above, below),
            of_sums,
            paired=True,
            vectorized=True,
            n_resamples=_RESAMPLES,
            method="percentile",
            random_state=np.random.default_rng(seed),
        ).confidence_interval
    bounds = [float(interval.low), float(interval.high)]
    return ratio, bounds if np.isfinite(bounds).all() else None


def _ratio(rows: Sequence[CaseScores], bound: Sequence[CaseScores], name: str, seed: int) -> dict[str, Any]:
    theirs = {row.case: row.values[name] for row in bound}
    ratio, interval = ratio_of_means(
        [row.values[name] for row in rows],
        [theirs[row.case] for row in rows],
        [row.subject for row in rows],
        seed=seed,
    )
    return {"ratio": ratio, "ratio_ci95": interval}
