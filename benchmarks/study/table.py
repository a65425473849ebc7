"""The table of a study, and its place on a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.study.runs import METRICS, Cell, verdicts

__all__ = ["table", "with_table"]

BEGIN, END = "<!-- results -->\n", "<!-- end of results -->"
COSTS = ("Dice TSTR / TRTR", "M parameters", "s a step", "GiB", "s a volume")


def with_table(page: str, text: str) -> str:
    """The page with what stands between its markers replaced.

    Raises:
        SystemExit: it has no markers.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"the page has no {BEGIN.strip()} ... {END}")
    return f"{before}{BEGIN}\n{text}\n{END}{after}"


def table(found: Sequence[Cell], reference: str) -> str:
    """A row for each method and trivial baseline of each task; below it which cases and machines gave the numbers."""
    told = verdicts(list(found), reference)
    heads = ["task", "method", *(heading(found, name) for name in METRICS), *COSTS]
    lines = [heads, ["---" if place < 2 else "---:" for place in range(len(heads))]]
    for task in dict.fromkeys(one.task for one in found):
        own = [one for one in found if one.task == task]
        lines += [row(one, told) for one in own]
        lines += [baseline_row(task, name, scores) for name, scores in own[0].baselines.items()]
    rows = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return f"{rows}\n\n" + "\n".join(f"{note}  " for note in notes(found, reference)) + "\n"


def heading(found: Sequence[Cell], name: str) -> str:
    """A metric with its unit, where all have the same, and its direction."""
    stated = [one.metrics[name] for one in found if name in one.metrics]
    if not stated:
        return name
    units = {one["unit"] for one in stated}
    unit = f" [{units.pop()}]" if len(units) == 1 and units != {""} else ""
    return f"{name}{unit} {'↑' if stated[0]['higher_is_better'] else '↓'}"


def row(one: Cell, told: Mapping[tuple[str, str, str], str]) -> list[str]:
    """One task by one method."""
    scores = [score(one, name, told.get((one.task, one.method, name), "")) for name in METRICS]
    training, translation = (one.costs.get(part, {}) for part in ("training", "translation"))
    return [
        one.task,
        one.method,
        *scores,
        " / ".join(short(one.dice.get(arm)) for arm in ("tstr", "trtr")) if one.dice else "–",
        short(one.costs.get("parameters", {}).get("generator"), 1e6),
        short(training.get("seconds_per_step")),
        short(training.get("memory_bytes"), 2**30),
        short(translation.get("seconds_per_volume")),
    ]


def baseline_row(task: str, name: str, scores: Mapping[str, Any]) -> list[str]:
    """What a task takes without any network: the same of all methods' runs."""
    means = [short(scores[metric]["mean"]) if metric in scores else "–" for metric in METRICS]
    return [task, f"*{name}*", *means, *["–"] * len(COSTS)]


def score(one: Cell, name: str, verdict: str) -> str:
    """Mean and interval, in the case's own unit."""
    scores = one.metrics.get(name)
    if scores is None or scores["mean"] is None:
        return "–"
    interval = scores["ci95"]
    around = f" ({short(interval[0])} to {short(interval[1])})" if interval else ""
    return f"{short(scores['mean'])}{around}{' ' if verdict else ''}{verdict}"


def short(value: float | None, unit: float = 1) -> str:
    """Three digits."""
    return "–" if value is None else f"{value / unit:.3g}"


def notes(found: Sequence[Cell], reference: str) -> list[str]:
    """What a reader needs beside the rows."""
    cases = {one.task: one.cases for one in found}
    tested = ", ".join(f"{task} {count}" for task, count in cases.items())
    about_tests = (
        f"Means with 95 % bootstrap intervals over subjects. ▲ better, ▼ worse than {reference} on paired cases: "
        "Wilcoxon's signed ranks, p < 0.05, corrected by Holm within the task."
    )
    about_costs = (
        "Dice: of segmenters trained on synthetic / on real images, both tested on real ones, mean over classes. "
        "Parameters are the generator's."
    )
    about_baselines = "In italics: trivial baselines, fitted to the training pairs, without a network."
    said = [f"Test cases: {tested}. {about_tests}", about_baselines, about_costs]
    definitions: dict[str, Any] = {}
    for one in found:
        for name in METRICS:
            if name in one.metrics:
                definitions.setdefault(name, {}).setdefault(one.metrics[name]["definition"], []).append(one.task)
    for name, by in definitions.items():
        for definition, tasks in by.items():
            where = "" if len(by) == 1 else f" ({', '.join(dict.fromkeys(tasks))})"
            said.append(f"{name}{where}: {definition}.")
    devices = dict.fromkeys(one.costs["training"]["device"] for one in found if "training" in one.costs)
    kinds = dict.fromkeys(one.costs["training"]["memory"] for one in found if "training" in one.costs)
    if devices:
        said.append(f"Measured on {', '.join(devices)}; GiB: the most {', '.join(kinds)}.")
    return said
