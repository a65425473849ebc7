"""The report: one HTML page that says how good a run is, shows it and tells how to run it again."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from medtrans.evaluation.verdict import BASELINES, verdicts
from medtrans.report.charts import Chart, agreement_chart, histogram_chart, line_chart, strip_chart
from medtrans.report.viewer import ViewedCase, embedded, script_hash, viewer_script
from medtrans.utils.messages import between, number, places

__all__ = [
    "TONES",
    "Headline",
    "downstream_part",
    "faithfulness_part",
    "headlines",
    "page_of",
    "render",
    "scores_table",
]


@dataclass(frozen=True)
class Headline:
    """What a reader should take home.

    Args:
        text: one sentence.
        tone: "good" where the model is clearly better than the best trivial baseline, "bad" where it is clearly worse,
            else "open".
    """

    text: str
    tone: str


def render(
    *,
    title: str,
    command: str,
    config_text: str,
    environment: Mapping[str, Any],
    summary: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    pictures: Sequence[tuple[str, str, bytes]],
    curves: Mapping[str, Sequence[tuple[float, float]]],
    warnings: Sequence[str] = (),
    facts: Mapping[str, str] | None = None,
    data: Sequence[tuple[str, str]] = (),
    methods: str = "",
    cited: Sequence[tuple[str, str]] = (),
    errors: Mapping[str, Any] | None = None,
    files: Sequence[Mapping[str, str]] = (),
    faithfulness: Mapping[str, Any] | None = None,
    downstream: Mapping[str, Any] | None = None,
    viewed: Sequence[ViewedCase] = (),
) -> str:
    """The page as HTML that needs no network, and runs no script unless it carries a viewer.

    Of `rows` only "label" and the scores are shown, so that names of cases and subjects stay with the data. All other
    texts are shown as given (and escaped): what they hold is what the page gives away.

    `summary` (whose "comparison" may be missing), `faithfulness` and `downstream` are the contents of the run's files;
    `rows` a mapping a case, with "label" and the scores by column; `pictures` (label, caption, content of a PNG file),
    and `files` for each of them addresses relative to the page, by what they hold; `errors` the content of
    `pictures/errors.json`; `data` (what, found) pairs, `methods` a paragraph and `cited` (component, works) pairs;
    `curves` (step, value) pairs by name; `viewed` the cases whose volumes the page carries for the viewer.
    """
    metrics, script = summary["metrics"], viewer_script()
    shown: list[dict[str, Any]] = [
        {
            "label": label,
            "caption": caption,
            "data": base64.b64encode(content).decode("ascii"),
            "files": files[place] if files else {},
        }
        for place, (label, caption, content) in enumerate(pictures)
    ]
    first = next((one for one in shown if one["caption"].startswith("median")), shown[0] if shown else None)
    error_charts = [chart for target, found in (errors or {}).items() for chart in _error_charts(target, found)]
    parts = {
        "scores": "Scores",
        "cases": "Case by case" if rows else "",
        "errors": "Errors" if error_charts else "",
        "pictures": "Pictures" if len(shown) > 1 else "",
        "viewer": "Viewer" if viewed else "",
        "faithfulness": "Can it be trusted?" if faithfulness else "",
        "downstream": "Worth to a segmenter" if downstream else "",
        "every": "Every case" if rows else "",
        "training": "Training" if curves else "",
        "data": "Data" if data else "",
        "methods": "Methods, to paste" if methods else "",
        "again": "Run it again",
        "configuration": "Configuration",
        "environment": "Environment",
    }
    return page_of(
        "report.html.j2",
        title=title,
        facts=facts or {},
        data=data,
        methods=methods,
        cited=cited,
        errors=error_charts,
        faithfulness=None if faithfulness is None else faithfulness_part(faithfulness),
        downstream=None if downstream is None else downstream_part(downstream),
        strips=_strips(rows, summary),
        viewed=viewed,
        volumes=[embedded(case) for case in viewed],
        script=script,
        script_hash=script_hash(script),
        command=command,
        withheld="\\" in command,
        config_text=config_text,
        environment=list(_flat(environment)),
        cases=summary["cases"],
        headlines=headlines(summary),
        metrics=metrics,
        scores=scores_table({"the model": metrics, **summary["baselines"]}),
        baselines={name: BASELINES[name] for name in summary["baselines"] if name in BASELINES},
        rows=[{"label": row["label"], "values": [number(row.get(name)) for name in metrics]} for row in rows],
        contents={place: heading for place, heading in parts.items() if heading},
        first=first,
        pictures=[one for one in shown if one is not first],
        charts=[line_chart(name, points) for name, points in curves.items()],
        warnings=list(dict.fromkeys([*summary["warnings"], *warnings])),
    )


def headlines(summary: Mapping[str, Any]) -> list[Headline]:
    """The verdicts on a run, as `verdicts` gives them, with the colour a page shows them in."""
    return [Headline(one["sentence"], TONES[one["outcome"]]) for one in verdicts(summary)]


TONES = {"better": "good", "worse": "bad", "undecided": "open"}
"""The colour of each outcome of a verdict."""


def page_of(template: str, **contents: Any) -> str:
    """A template of this package as HTML; every text is escaped."""
    environment = Environment(
        loader=PackageLoader("medtrans.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**contents)


def scores_table(table: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows of a table of scores, the best of each column marked.

    Args:
        table: by the row's name, summaries of the same columns; the first row is the one the page is about.
    """
    columns = list(next(iter(table.values())))
    best = {name: _best(name, table) for name in columns}
    return [
        {
            "name": name,
            "model": index == 0,
            "cells": [{**_cell(scores[column]), "best": best[column] == name} for column in columns],
        }
        for index, (name, scores) in enumerate(table.items())
    ]


def _strips(rows: Sequence[Mapping[str, Any]], summary: Mapping[str, Any]) -> list[Chart]:
    """For each column every case's score, beside the means of the trivial baselines."""
    if not rows:
        return []
    return [
        strip_chart(
            f"{name} [{metric['unit']}]" if metric["unit"] else name,
            {"": [(str(row["label"]), float(row[name])) for row in rows if row.get(name) is not None]},
            marks={baseline: scores[name]["mean"] for baseline, scores in summary["baselines"].items()},
        )
        for name, metric in summary["metrics"].items()
    ]


def _error_charts(target: str, found: Mapping[str, Any]) -> list[Chart]:
    """How often voxels are off by how much, and each case's mean error; nothing where no voxel counted."""
    if not found["means"]:
        return []
    unit = f" [{found['unit']}]" if found["unit"] else ""
    return [
        histogram_chart(
            f"{target}: % of voxels by prediction − target{unit}", found["first"], found["bin"], found["counts"]
        ),
        agreement_chart(f"{target}: mean error of each case over its mean intensity{unit}", found["means"]),
    ]


def _best(column: str, table: Mapping[str, Mapping[str, Any]]) -> str | None:
    known = {name: scores[column] for name, scores in table.items() if scores[column]["mean"] is not None}
    if len(known) < 2:
        return None
    sign = 1 if next(iter(known.values()))["higher_is_better"] else -1
    return max(known, key=lambda name: sign * known[name]["mean"])


def _cell(score: Mapping[str, Any]) -> dict[str, str]:
    mean, interval = score["mean"], score["ci95"]
    if mean is None:
        return {"mean": "–", "sd": "", "interval": f"median {number(score['median'])}, n = {score['n']}"}
    digits = places(mean)
    spread = "" if score["sd"] is None else f"± {number(score['sd'], digits)}"
    return {"mean": number(mean, digits), "sd": spread, "interval": between(interval, digits)}


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
            yield f"{prefix}{key}", ", ".join(map(str, value))
        else:
            yield f"{prefix}{key}", str(value)


def faithfulness_part(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row for each check of faithfulness: "name", "found", "meaning" and "tone" (good, bad or open).

    Args:
        found: the content of `faithfulness.json`.
    """
    copies, collapse, lesions = found["copy_through"], found["collapse"], found["lesions"]
    unlike = found["out_of_distribution"]
    rows = [
        _row(
            "Sources unlike training",
            f"{len(unlike)} of {found['cases']} test cases",
            "spacing, size, orientation, intensities and look of the source, against the training cases: robust z > 6",
            tone="bad" if unlike else "good",
        ),
        _row(
            "Copies of the source",
            f"correlation {number(copies['source_prediction'], 3)}; of targets {number(copies['source_target'], 3)}",
            "median correlation of source and prediction in the foreground; flagged above 0.99 where targets' is lower",
            tone=_tone(copies),
        ),
        _row(
            "The same for everybody",
            f"{_percent(collapse['variation'], 100)} of the images' variation",
            "spread of coarse means over cases, predictions against images; flagged below 20 %",
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
