"""What the scores of many cases say together: means with intervals, paired tests, effect sizes."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import bootstrap, norm, wilcoxon
from scipy.stats import t as student_t

from medtrans.config.protocols import PROTOCOLS
from medtrans.errors import DataError
from medtrans.evaluation.scores import CaseScores, Column
from medtrans.evaluation.verdict import verdicts
from medtrans.utils.messages import listed

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "FEWEST_SUBJECTS",
    "compare",
    "describe",
    "holm",
    "mean_interval",
    "ratio_interval",
    "sign_flip_p",
    "standardised_effect",
    "summarise",
    "summary_of",
    "wilcoxon_p",
    "worst_median_best",
]


_RESAMPLES = 2000
_CONFIDENCE = 0.95
FEWEST_SUBJECTS = 4
"""Subjects, below which there is no interval: three numbers say nothing of how they scatter."""

_FEW = 20  # subjects, below which a bootstrap is too narrow


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
    """The 95 % interval of a mean over cases, `[low, high]`; None for fewer than four subjects.

    It is one of subjects, since visits of one subject are not independent: see `ratio_interval`.

    Args:
        values: finite scores, one a case.
        subjects: whose each case is.
        seed: of the draws: the same scores get the same interval.
    """
    _, owner = np.unique(np.asarray(subjects, dtype=str), return_inverse=True)
    # A subject comes with all its cases: mean = sum over subjects of sum(s) / sum over subjects of count(s).
    sums = np.bincount(owner, weights=values)
    return ratio_interval(sums, np.bincount(owner).astype(np.float64), seed=seed)


def ratio_interval(above: np.ndarray, below: np.ndarray, *, seed: int = 0) -> list[float] | None:
    """The 95 % interval of sum(above) / sum(below), `[low, high]`; None for fewer than four subjects.

    Up to 19 subjects it is Student's t interval, from 20 on a bias-corrected and accelerated bootstrap (BCa, 2000
    draws): of few subjects a bootstrap never draws what it has not seen, and its interval is too narrow.

    Args:
        above: a sum a subject, `(n,)`.
        below: what it is divided by, such as the subject's number of cases.
        seed: of the draws.
    """
    if len(above) < FEWEST_SUBJECTS:
        return None
    ratio = float(above.sum() / below.sum())
    if np.allclose(above, ratio * below, rtol=1e-12, atol=0):
        return [ratio] * 2
    if len(above) < _FEW:
        # A ratio moves with its sums as their residuals against it do (Cochran, Sampling Techniques, section 2.11);
        # where every subject has one case they are the deviations from the mean, and this is the interval as taught.
        residuals = (above - ratio * below) / below.mean()
        reach = float(student_t.ppf((1 + _CONFIDENCE) / 2, len(above) - 1) * residuals.std(ddof=1))
        return [ratio - reach / math.sqrt(len(above)), ratio + reach / math.sqrt(len(above))]

    def of_sums(above: np.ndarray, below: np.ndarray, axis: int = -1) -> Any:
        return above.sum(axis=axis) / below.sum(axis=axis)

    return _bootstrap_interval((above, below), of_sums, seed=seed)


def _bootstrap_interval(
    samples: Sequence[np.ndarray], statistic: Callable[..., Any], *, seed: int
) -> list[float] | None:
    """The 95 % interval of a statistic of arrays `(..., n)`, drawn together; None where the draws hardly differ."""
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
            **asdict(column),
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
        The description of the differences a case, with "unit", "better" (cases that score better) and "subjects".

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
        "subjects": len({row.subject for row, gain in zip(rows, differences, strict=True) if not math.isnan(gain)}),
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
        "verdicts" (see `verdicts`; none without baselines), "cases", "protocol", "scored_in", "metrics", "baselines",
        "warnings" and "comparison": by column the best baseline's name under "baseline" with what `compare` says of the
        model against it.
    """
    published = PROTOCOLS[protocol]
    best = {name: _best(baselines, name, column) for name, column in columns.items()}
    summary = {
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
    return {"verdicts": verdicts(summary) if baselines else [], **summary}


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
    """The warning that few subjects say little, with how often their intervals hold."""
    subjects = {name: len({row.subject for row in rows if not math.isnan(row.values[name])}) for name in columns}
    few = [name for name, count in subjects.items() if 0 < count < _FEW]
    if not few:
        return []
    fewest = min(subjects[name] for name in few)
    told = (
        f"no 95 % interval is given for fewer than {FEWEST_SUBJECTS}"
        if fewest < FEWEST_SUBJECTS
        else f"a 95 % interval from fewer than {_FEW} is Student's t: it holds the true mean 95 times in 100 where "
        "scores scatter evenly, and 82 to 87 times where they are strongly skewed"
    )
    return [f"{listed(few)}: scores of {fewest} subject{'s' if fewest != 1 else ''}; {told}"]


def _best(baselines: Mapping[str, Sequence[CaseScores]], name: str, column: Column) -> str | None:
    sign = 1.0 if column.higher_is_better else -1.0
    means = {}
    for baseline, rows in baselines.items():
        defined = [row.values[name] for row in rows if not math.isnan(row.values[name])]
        if defined:
            means[baseline] = sign * sum(defined) / len(defined)
    return max(means, key=lambda baseline: means[baseline]) if means else None


_DRAWS = 9999
_CHUNK = 256


def wilcoxon_p(differences: np.ndarray) -> np.ndarray:
    """Two-sided p of Wilcoxon's signed-rank test that differences scatter evenly about 0.

    Exact for up to 50 differences without ties; differences of 0 are left out, and 1 is given where all are.

    Args:
        differences: `(..., n)`, one a subject; each line is a test of its own.
    """
    differences = np.asarray(differences, dtype=np.float64)
    lines = differences.reshape(-1, differences.shape[-1])
    p = np.ones(len(lines))
    moved = (lines != 0).any(axis=1)
    if moved.any():
        p[moved] = wilcoxon(lines[moved], axis=-1).pvalue
    return p.reshape(differences.shape[:-1])


def sign_flip_p(differences: np.ndarray, *, draws: int = _DRAWS, seed: int = 0) -> np.ndarray:
    """Two-sided p of the paired permutation test of the mean: how often random signs give one as far from 0.

    All signs are tried where there are no more than draws, which makes the test exact. A line with a difference that is
    not finite has no p: NaN.

    Args:
        differences: `(..., n)`, one a subject; each line is a test of its own, by the same signs.
        draws: random sets of signs.
        seed: of the draws.
    """
    differences = np.asarray(differences, dtype=np.float64)
    lines = differences.reshape(-1, differences.shape[-1])
    n = lines.shape[1]
    exact = n < 63 and 2**n <= draws
    # p = share of sign sets s with |sum s_i d_i| >= |sum d_i|; of drawn ones (k + 1) / (n + 1), never 0.
    if exact:
        signs = 1.0 - 2.0 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
    else:
        signs = np.random.default_rng(seed).choice((-1.0, 1.0), size=(draws, n))
    p = np.empty(len(lines))
    for first in range(0, len(lines), _CHUNK):
        some = lines[first : first + _CHUNK]
        # Sums of the same numbers in another order differ by rounding, and must count as equal.
        with np.errstate(invalid="ignore"):
            observed = np.abs(some.sum(axis=1)) - 1e-12 * np.abs(some).sum(axis=1)
            extreme = (np.abs(signs @ some.T) >= observed).sum(axis=0)
        p[first : first + _CHUNK] = extreme / len(signs) if exact else (extreme + 1) / (draws + 1)
    p[~np.isfinite(lines).all(axis=1)] = np.nan
    return p.reshape(differences.shape[:-1])


def holm(p: Sequence[float]) -> list[float]:
    """P-values corrected by Holm for as many tests as there are, in the order given; NaN, which is none, stays NaN."""
    # p_(k), the k-th smallest of m, becomes max over j <= k of min(1, (m - j + 1) p_(j)).
    tests = int(np.count_nonzero(~np.isnan(p))) if len(p) else 0
    corrected = np.full(len(p), np.nan)
    highest = 0.0
    for rank, index in enumerate(np.argsort(p)[:tests]):
        highest = max(highest, min(1.0, (tests - rank) * p[index]))
        corrected[index] = highest
    return [float(value) for value in corrected]


def standardised_effect(differences: np.ndarray, *, seed: int = 0) -> dict[str, Any]:
    """Cohen's d of paired differences: their mean over their standard deviation.

    Its interval is by BCa bootstrap from 20 subjects on, below that by its large-sample error.

    Args:
        differences: `(n,)`, one a subject.
        seed: of the bootstrap.

    Returns:
        "d" and "ci95", each None where there is no spread or fewer than three subjects; "ci95" is None for fewer than
        four.
    """
    n = len(differences)
    # Equal differences leave rounding dust as their spread.
    if n < 3 or np.ptp(differences) <= 1e-12 * np.abs(differences).max():
        return {"d": None, "ci95": None}

    def effect(values: np.ndarray, axis: int = -1) -> Any:
        return values.mean(axis=axis) / values.std(axis=axis, ddof=1)

    d = float(effect(differences))
    if n < FEWEST_SUBJECTS:
        return {"d": d, "ci95": None}
    if n < _FEW:
        # The large-sample error of d (Hedges and Olkin 1985, section 5.3) holds 94.5 to 96.7 % from 4 subjects on.
        reach = float(norm.ppf((1 + _CONFIDENCE) / 2)) * math.sqrt(1 / n + d**2 / (2 * (n - 1)))
        return {"d": d, "ci95": [d - reach, d + reach]}
    return {"d": d, "ci95": _bootstrap_interval((differences,), effect, seed=seed)}
