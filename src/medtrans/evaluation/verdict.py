"""The verdict: whether a model is better than the best trivial baseline, or than another, as data and in a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medtrans.utils.messages import probability, short

__all__ = ["BASELINES", "verdict_on", "verdicts"]


BASELINES = {
    "source_linear": "a linear fit of the source",
    "source_lut": "the mean training target at each of 64 source intensities",
    "training_mean": "the mean training target, aligned by the centroid of the foreground",
}
"""The trivial baselines in words."""


def verdicts(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Whether the model beats the best trivial baseline: one for each column of PSNR, else one for the first column.

    A model counts as better or worse where the 95 % interval of the mean gain over subjects leaves out 0.

    Args:
        summary: the content of `summary.json`; one that an older version left may lack "comparison" and "subjects".

    Returns:
        For each "metric", "unit", "baseline" (its name), "outcome" ("better", "worse" or "undecided"), "gain" (mean
        over cases, positive is better), "ci95", "better_in" (cases), "cases", "subjects" and "sentence". What is not
        known is None.
    """
    metrics = summary["metrics"]
    names = [name for name in metrics if name == "psnr" or name.startswith("psnr_")] or list(metrics)[:1]
    return [_verdict(name, metrics[name], summary) for name in names]


_MOST_P = 0.05
"""After correction; from here on a difference may be chance."""


def verdict_on(compared: Mapping[str, Any], reference: str) -> dict[str, str]:
    """Whether a run is better than the one it is compared with, in one metric.

    It counts as better or worse where the 95 % interval of the mean gain leaves out 0 and the p of the permutation
    test, corrected by Holm, is below 0.05.

    Args:
        compared: one of the comparisons that `compare_runs` gives.
        reference: the other's name.

    Returns:
        "outcome" ("better", "worse" or "undecided") and "sentence".
    """
    gain, interval, p = (compared[key] for key in ("gain", "ci95", "permutation_p_holm"))
    name, metric = compared["run"], compared["metric"]
    between = f"{name} is better or worse than {reference} in {metric}"
    if gain is None or interval is None or p is None:
        lacking = "a mean is not finite" if gain is None else "there is no 95 % interval for so few subjects"
        return {"outcome": "undecided", "sentence": f"It cannot be told whether {between}: {lacking}."}
    low, high = (short(limit) for limit in interval)
    within = (
        f"mean gain {short(gain)}, 95 % interval {low} to {high} {compared['unit']}".rstrip()
        + f"; better in {compared['better']} of {compared['n']} cases; p {probability(p)} after Holm"
    )
    if p >= _MOST_P or interval[0] <= 0 <= interval[1]:
        return {"outcome": "undecided", "sentence": f"It cannot be told whether {between} ({within})."}
    outcome = "better" if gain > 0 else "worse"
    return {"outcome": outcome, "sentence": f"{name} is {outcome} than {reference} in {metric} ({within})."}


def _verdict(name: str, metric: Mapping[str, Any], summary: Mapping[str, Any]) -> dict[str, Any]:
    found = summary.get("comparison", {}).get(name) or _difference_of_means(name, metric, summary["baselines"])
    interval = found["ci95"]
    decided = interval is not None and not interval[0] <= 0 <= interval[1]
    facts = {
        "metric": name,
        "unit": metric["unit"],
        "baseline": found["baseline"],
        "outcome": ("better" if interval[0] > 0 else "worse") if decided else "undecided",
        "gain": found["mean"],
        "ci95": interval,
        "better_in": found.get("better"),
        "cases": found["n"],
        "subjects": found.get("subjects"),
    }
    return {**facts, "sentence": _sentence(facts)}


def _sentence(facts: Mapping[str, Any]) -> str:
    name, unit, gain, interval = (facts[key] for key in ("metric", "unit", "gain", "ci95"))
    if facts["baseline"] is None:
        return (
            f"Nothing to compare {name} with: no trivial baseline was scored, so it cannot be said whether the model "
            "has learnt anything."
        )
    against = f"the best trivial baseline ({BASELINES.get(facts['baseline'], facts['baseline'])})"
    counted = _counted(facts)
    if gain is None:
        return f"The model and {against} cannot be compared over {counted}: the mean of {name} is not finite."
    amount = f"{short(abs(gain))} {unit}".rstrip()
    side = "worse" if gain < 0 else "better" if gain > 0 else "neither better nor worse"
    if interval is None:
        return (
            f"The model is {side} than {against} by {amount} in {name} over {counted}, but it cannot be told how much "
            "of that is chance: there is no 95 % interval."
        )
    low, high = (short(limit) for limit in interval)
    within = f"95 % interval of the gain {low} to {high} {unit}".rstrip()
    if facts["better_in"] is not None:
        within += f"; better in {facts['better_in']} of {facts['cases']} cases"
    if facts["outcome"] == "undecided":
        return (
            f"It cannot be told whether the model is better or worse than {against}: over {counted} it is {side} by "
            f"{amount} in {name} ({within})."
        )
    advice = "" if facts["outcome"] == "better" else " As it is, the baseline serves better."
    return f"The model is {side} than {against} by {amount} in {name} over {counted} ({within}).{advice}"


def _counted(facts: Mapping[str, Any]) -> str:
    count, one = (facts["cases"], "test case") if facts["subjects"] is None else (facts["subjects"], "test subject")
    return f"{count} {one}{'' if count == 1 else 's'}"


def _difference_of_means(
    name: str, metric: Mapping[str, Any], baselines: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """What can be said of a summary that holds no comparison by case."""
    sign = 1 if metric["higher_is_better"] else -1
    means = {baseline: scores[name]["mean"] for baseline, scores in baselines.items()}
    known = {baseline: sign * mean for baseline, mean in means.items() if mean is not None}
    best = max(known, key=lambda baseline: known[baseline]) if known else None
    gain = None if best is None or metric["mean"] is None else sign * metric["mean"] - known[best]
    return {"baseline": best, "mean": gain, "ci95": None, "n": metric["n"]}
