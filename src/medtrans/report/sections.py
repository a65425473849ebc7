"""The report's parts beyond scores, as rows that a template shows: what was watched for, and segmenters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medtrans.utils.messages import between, number, places

__all__ = ["downstream_part", "faithfulness_part"]


def faithfulness_part(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row for each thing that was watched for: "name", "found", "meaning" and "tone" (good, bad or open).

    Args:
        found: the content of `faithfulness.json`.
    """
    copies, collapse, lesions = found["copy_through"], found["collapse"], found["lesions"]
    strange = found["out_of_distribution"]
    rows = [
        _row(
            "Sources unlike training",
            f"{len(strange)} of {found['cases']} test cases",
            "spacing, size, orientation, intensities and look of the source, against the training cases: robust z > 6",
            tone="bad" if strange else "good",
        ),
        _row(
            "Copies of the source",
            f"correlation {number(copies['source_prediction'], 3)}; of targets {number(copies['source_target'], 3)}",
            "median correlation of source and prediction in the foreground; flagged above 0.99 where targets' is lower",
            tone=_tone(copies),
        ),
        _row(
            "The same for everybody",
            f"{_percent(collapse['variation'], 100)} of the sources' variation",
            "spread of coarse means over cases, predictions against sources; flagged below 20 %",
            tone="open" if collapse["variation"] is None else _tone(collapse),
        ),
    ]
    by_contrast = ", ".join(
        f"{contrast}: {_percent(share)}" for contrast, share in lesions["preserved_by_contrast"].items()
    )
    rows += [
        _share(
            "Inserted spheres preserved", lesions["preserved_percent"],
            f"{lesions['inserted']} spheres put into sources, 2 to 6 voxels in radius; by contrast {by_contrast}; "
            "flagged below 80 %",
            low_is_bad=True,
        ),
        _share(
            "Changes elsewhere", lesions["elsewhere_percent"],
            "insertions that changed the prediction as much far away from all spheres; flagged above 20 %",
            low_is_bad=False,
        ),
    ]  # fmt: skip
    if lesions["removed"]:
        rows += [
            _share(
                "True lesions shown", lesions["shown_percent"],
                "lesions that the target shows, with half its contrast or more; flagged below 80 %",
                low_is_bad=True,
            ),
            _share(
                "Lesions invented", lesions["invented_percent"],
                f"{lesions['removed']} lesions taken out of sources, that the prediction still showed; flagged above "
                "20 %",
                low_is_bad=False,
            ),
        ]  # fmt: skip
    return rows


def downstream_part(results: Mapping[str, Any]) -> dict[str, Any]:
    """The table of arms: "columns" (name, unit, direction, definition), "rows", and what a reader must know.

    Args:
        results: the content of `downstream/results.json`.
    """
    arms = results["arms"]
    columns = [
        {"name": name, **{key: scores[key] for key in ("unit", "higher_is_better", "definition")}}
        for name, scores in arms["trtr"].items()
    ]
    return {
        "image": results["image"],
        "columns": columns,
        "rows": [
            {
                "name": arm,
                "meaning": results["meanings"][arm],
                "cells": [_arm_cell(scores[column["name"]], bound=arm == "trtr") for column in columns],
            }
            for arm, scores in arms.items()
        ],
        "subjects": results["subjects"],
        "cases": results["cases"],
        "labels": results["labels"],
        "seeds": results["seeds"],
        "protocol": results["protocol"],
        "segmenter": results["segmenter"],
        "warnings": results["warnings"],
    }


def _arm_cell(scores: Mapping[str, Any], *, bound: bool) -> dict[str, str]:
    mean = scores["mean"]
    digits = None if mean is None else places(mean)
    ratio = "" if bound or scores["ratio"] is None else f"{number(scores['ratio'], 2)} of trtr"
    within = between(scores["ratio_ci95"], 2)
    return {
        "mean": number(mean, digits),
        "interval": between(scores["ci95"], digits),
        "ratio": f"{ratio} ({within})" if ratio and within else ratio,
        "seeds": "seeds " + ", ".join(number(value, digits) for value in scores["by_seed"]),
    }


def _row(name: str, found: str, meaning: str, *, tone: str) -> dict[str, Any]:
    return {"name": name, "found": found, "meaning": meaning, "tone": tone}


def _share(name: str, percent: float | None, meaning: str, *, low_is_bad: bool) -> dict[str, Any]:
    if percent is None:
        return _row(name, "nothing visible to judge", meaning, tone="open")
    bad = percent < 80 if low_is_bad else percent > 20
    return _row(name, _percent(percent), meaning, tone="bad" if bad else "good")


def _percent(share: float | None, factor: float = 1) -> str:
    return "–" if share is None else f"{factor * share:.0f} %"


def _tone(found: Mapping[str, Any]) -> str:
    return "bad" if found["flagged"] else "good"
