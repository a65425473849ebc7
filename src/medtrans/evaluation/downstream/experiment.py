"""The assessment of synthetic images by what they are worth to a segmenter (synthetic-to-real)."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from medtrans.config.experiment import Experiment
from medtrans.config.schema import DownstreamSettings
from medtrans.data.cohort import Cohort
from medtrans.data.preprocessing import make_preprocessing
from medtrans.errors import ConfigError
from medtrans.evaluation.downstream.roles import Roles, assign_roles, seen_subjects, synthesise
from medtrans.evaluation.downstream.segmenter import (
    Images,
    Kind,
    Segmenter,
    assessed_image,
    scores_of,
    segmenter_experiment,
)
from medtrans.evaluation.scores import CaseScores, Column
from medtrans.evaluation.scoring import columns_of
from medtrans.evaluation.statistics import describe, ratio_interval
from medtrans.inference.translator import Translator
from medtrans.plugins.interfaces import Metric
from medtrans.training.build import make_method
from medtrans.utils.files import write_json, write_text

__all__ = [
    "ARMS",
    "DownstreamPlan",
    "_averaged_over_seeds",
    "arm_summary",
    "plan_downstream",
    "ratio_of_means",
    "run_downstream",
]


ARMS: Mapping[str, str] = {
    "trtr": "trained on real images, tested on real images: the bound",
    "tstr": "trained on synthetic images with real labels, tested on real images",
    "trts": "trained on real images, tested on synthetic images",
    "tsrtr": "trained on real and synthetic images, tested on real images",
}
"""What each arm is, in the order of a table."""

_TRAINED_ON: Mapping[str, Kind] = {
    "trtr": "real",
    "tstr": "synthetic",
    "trts": "real",
    "tsrtr": "real_and_synthetic",
}
_TESTED_ON: Mapping[str, Images] = {"trtr": "real", "tstr": "real", "trts": "synthetic", "tsrtr": "real"}


@dataclass(frozen=True)
class DownstreamPlan:
    """What is going to be done, checked before anything is.

    Args:
        experiment: of the run.
        settings: of the assessment.
        image: the target that is assessed.
        arms: in the order of the table, the bound first.
        cohort: of the run.
        roles: who trains and who tests segmenters.
        warnings: what a reader must know.
        folder: where everything goes.
        plugins: the single-file plugins the run was started with.
    """

    experiment: Experiment
    settings: DownstreamSettings
    image: str
    arms: tuple[str, ...]
    cohort: Cohort
    roles: Roles
    warnings: tuple[str, ...]
    folder: Path
    plugins: tuple[Path, ...]


def plan_downstream(
    experiment: Experiment, cohort: Cohort, run: Path, *, plugins: Sequence[Path] = ()
) -> DownstreamPlan:
    """What `downstream` in a config comes to; nothing is written.

    Raises:
        ConfigError: the config has no `downstream`, or its segmenter's config is wrong.
        DataError: a subject was seen by the translator, a case lacks labels, or there are too few subjects.
    """
    settings = experiment.config.downstream
    if settings is None:
        raise ConfigError(
            "downstream: the run's config has none; say which labels count, such as "
            "downstream.labels.lesion=[17] behind the run's folder"
        )
    image = assessed_image(experiment, settings)
    segmenter = segmenter_experiment(experiment, settings, seed=0, folder=run / "downstream", plugins=plugins)
    make_preprocessing(segmenter)
    make_method(segmenter, training_cases=1)
    seen, doubts = seen_subjects(cohort, run, experiment.saved())
    roles = assign_roles(cohort, settings, seen, image=image, seed=experiment.config.seed)
    if settings.protocol == "mdaunet":
        doubts.append(_overlap(roles))
    arms = tuple(arm for arm in ARMS if arm == "trtr" or arm in settings.arms)
    return DownstreamPlan(
        experiment, settings, image, arms, cohort, roles, tuple(doubts), run / "downstream", tuple(plugins)
    )


def run_downstream(plan: DownstreamPlan, translator: Translator) -> dict[str, Any]:
    """Train and test all segmenters; leave `downstream/results.json` and `downstream/metrics.csv` in the run.

    Whatever an earlier try with the same settings and weights has finished is kept, and a segmenter it was training
    goes on from its last checkpoint.

    Args:
        plan: from `plan_downstream`.
        translator: whose synthetic images are assessed.

    Returns:
        What `results.json` holds.

    Raises:
        MedtransError: as a run does.
    """
    settings, roles, folder = plan.settings, plan.roles, plan.folder
    kinds = {_TRAINED_ON[arm] for arm in plan.arms}
    needed = [
        *(roles.train if kinds - {"real"} else ()),
        *(roles.test if any(_TESTED_ON[arm] == "synthetic" for arm in plan.arms) else ()),
    ]
    synthetic = synthesise(translator, plan.cohort, needed, plan.image, folder / "synthetic")
    scores: dict[str, list[list[CaseScores]]] = {arm: [] for arm in plan.arms}
    experiment = plan.experiment
    for seed in range(settings.seeds):
        for kind in dict.fromkeys(_TRAINED_ON[arm] for arm in plan.arms):
            arms = [arm for arm in plan.arms if _TRAINED_ON[arm] == kind]
            own = folder / f"{kind}_seed{seed}"
            experiment = segmenter_experiment(plan.experiment, settings, seed=seed, folder=own, plugins=plan.plugins)
            found = scores_of(
                Segmenter(
                    experiment,
                    plan.image,
                    kind,
                    tuple(dict.fromkeys(_TESTED_ON[arm] for arm in arms)),
                    roles.train,
                    roles.test,
                    synthetic,
                    folder / "cache",
                )
            )
            for arm in arms:
                scores[arm].append(found[_TESTED_ON[arm]])
    results = _results(plan, scores, experiment)
    _write_rows(folder / "metrics.csv", scores)
    write_json(folder / "results.json", results)
    return results


def _results(
    plan: DownstreamPlan, scores: Mapping[str, Sequence[Sequence[CaseScores]]], segmenter: Experiment
) -> dict[str, Any]:
    metrics: dict[str, Metric] = {name: segmenter.build("metrics", name) for name in segmenter.under("metrics")}
    columns = columns_of({"labels": metrics}, {"labels": ""})
    roles = plan.roles
    return {
        "image": plan.image,
        "labels": {name: list(labels) for name, labels in plan.settings.labels.items()},
        "protocol": plan.settings.protocol,
        "subjects": {
            "train": len({member.case.subject for member in roles.train}),
            "test": len({member.case.subject for member in roles.test}),
            "overlap": len({member.case.subject for member in roles.overlap}),
        },
        "cases": {
            "train": [member.label for member in roles.train],
            "test": [member.label for member in roles.test],
            "overlap": [member.label for member in roles.overlap],
        },
        "seeds": plan.settings.seeds,
        "segmenter": {"generator": segmenter.saved()["generator"], "steps": segmenter.config.train.steps},
        "arms": arm_summary(scores, columns, seed=plan.experiment.config.seed),
        "meanings": {arm: ARMS[arm] for arm in plan.arms},
        "warnings": list(plan.warnings),
    }


def _overlap(roles: Roles) -> str:
    tested = {member.case.subject for member in roles.test}
    shared = {member.case.subject for member in roles.overlap}
    return (
        f"downstream: as published, {len(shared)} of the {len(tested)} subjects segmenters are tested on are subjects "
        "the translator was trained or chosen on; with protocol: disjoint there would be none"
    )


def _write_rows(path: Path, scores: Mapping[str, Sequence[Sequence[CaseScores]]]) -> None:
    """A row for each arm, seed and case."""
    columns = list(next(iter(scores.values()))[0][0].values)
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("arm", "seed", "case", "label", "subject", *columns))
    for arm, by_seed in scores.items():
        for seed, cases in enumerate(by_seed):
            rows.writerows(
                (arm, seed, row.case, row.label, row.subject, *(repr(row.values[name]) for name in columns))
                for row in cases
            )
    write_text(path, text.getvalue())


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
    means = {arm: _averaged_over_seeds(by_seed) for arm, by_seed in scores.items()}
    bound = {row.case: row.values for row in means["trtr"]}

    def column_summary(arm: str, name: str, column: Column) -> dict[str, Any]:
        rows = means[arm]
        values, subjects = [row.values[name] for row in rows], [row.subject for row in rows]
        by_seed = [float(np.mean([row.values[name] for row in one])) for one in scores[arm]]
        ratio, interval = ratio_of_means(values, [bound[row.case][name] for row in rows], subjects, seed=seed)
        return {
            **describe(values, subjects, seed=seed),
            "by_seed": by_seed,
            "median_of_seeds": median(by_seed),
            "ratio": ratio,
            "ratio_ci95": interval,
            **asdict(column),
        }

    return {arm: {name: column_summary(arm, name, column) for name, column in columns.items()} for arm in means}


def _averaged_over_seeds(by_seed: Sequence[Sequence[CaseScores]]) -> list[CaseScores]:
    """The mean of each case's scores over the seeds."""
    return [
        replace(rows[0], values={name: float(np.mean([row.values[name] for row in rows])) for name in rows[0].values})
        for rows in zip(*by_seed, strict=True)
    ]


def ratio_of_means(
    values: Sequence[float], others: Sequence[float], subjects: Sequence[str], *, seed: int = 0
) -> tuple[float | None, list[float] | None]:
    """mean(values) / mean(others) over the same cases, and its 95 % interval over subjects.

    Returns:
        The ratio, None where the mean of `others` is 0; the interval, None for fewer than four subjects or where a
        draw has no ratio.
    """
    _, owner = np.unique(np.asarray(subjects, dtype=str), return_inverse=True)
    above, below = (np.bincount(owner, weights=np.asarray(each, dtype=float)) for each in (values, others))
    if below.sum() == 0:
        return None, None
    ratio = float(above.sum() / below.sum())
    return ratio, ratio_interval(above, below, seed=seed)
