"""The assessment of synthetic images by what they are worth to a segmenter (synthetic-to-real)."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medtrans.config.experiment import Experiment
from medtrans.config.schema import DownstreamSettings
from medtrans.data.cohort import Cohort
from medtrans.data.preprocessing import make_preprocessing
from medtrans.errors import ConfigError
from medtrans.evaluation.downstream.roles import Roles, assign_roles, seen_subjects
from medtrans.evaluation.downstream.segmenter import (
    Images,
    Kind,
    Segmenter,
    assessed_image,
    scores_of,
    segmenter_experiment,
)
from medtrans.evaluation.downstream.synthesis import synthesise
from medtrans.evaluation.downstream.utility import ARMS, arm_summary
from medtrans.evaluation.scores import CaseScores
from medtrans.evaluation.scoring import columns_of
from medtrans.inference.translator import Translator
from medtrans.plugins.interfaces import Metric
from medtrans.training.build import make_method
from medtrans.utils.files import write_json, write_text

__all__ = ["DownstreamPlan", "plan_downstream", "run_downstream"]


_TRAINED_ON: Mapping[str, Kind] = {
    "trtr": "real",
    "tstr": "synthetic",
    "trts": "real",
    "tsrtr": "real_and_synthetic",
}
_TESTED_ON: Mapping[str, Images] = {"trtr": "real", "tstr": "real", "trts": "synthetic", "tsrtr": "real"}

_log = logging.getLogger("medtrans")


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
    seen, warnings = seen_subjects(cohort, run, experiment.saved())
    roles = assign_roles(cohort, settings, seen, image=image, seed=experiment.config.seed)
    if settings.protocol == "mdaunet":
        warnings.append(_overlap(roles))
    arms = tuple(arm for arm in ARMS if arm == "trtr" or arm in settings.arms)
    return DownstreamPlan(
        experiment, settings, image, arms, cohort, roles, tuple(warnings), run / "downstream", tuple(plugins)
    )


def run_downstream(assessment: DownstreamPlan, translator: Translator) -> dict[str, Any]:
    """Train and test all segmenters; leave `downstream/results.json` and `downstream/metrics.csv` in the run.

    Whatever an earlier try with the same settings and weights has finished is kept, and a segmenter it was training
    goes on from its last checkpoint.

    Args:
        assessment: from `planned`.
        translator: whose synthetic images are assessed.

    Returns:
        What `results.json` holds.

    Raises:
        MedtransError: as a run does.
    """
    settings, roles, folder = assessment.settings, assessment.roles, assessment.folder
    kinds = {_TRAINED_ON[arm] for arm in assessment.arms}
    needed = [
        *(roles.train if kinds - {"real"} else ()),
        *(roles.test if any(_TESTED_ON[arm] == "synthetic" for arm in assessment.arms) else ()),
    ]
    synthetic = synthesise(translator, assessment.cohort, needed, assessment.image, folder / "synthetic")
    scores: dict[str, list[list[CaseScores]]] = {arm: [] for arm in assessment.arms}
    experiment = assessment.experiment
    for seed in range(settings.seeds):
        for kind in dict.fromkeys(_TRAINED_ON[arm] for arm in assessment.arms):
            arms = [arm for arm in assessment.arms if _TRAINED_ON[arm] == kind]
            own = folder / f"{kind}_seed{seed}"
            experiment = segmenter_experiment(
                assessment.experiment, settings, seed=seed, folder=own, plugins=assessment.plugins
            )
            found = scores_of(
                Segmenter(
                    experiment,
                    assessment.image,
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
    results = _results(assessment, scores, experiment)
    _write_rows(folder / "metrics.csv", scores)
    write_json(folder / "results.json", results)
    return results


def _results(
    assessment: DownstreamPlan, scores: Mapping[str, Sequence[Sequence[CaseScores]]], segmenter: Experiment
) -> dict[str, Any]:
    metrics: dict[str, Metric] = {name: segmenter.build("metrics", name) for name in segmenter.under("metrics")}
    columns = columns_of({"labels": metrics}, {"labels": ""})
    roles = assessment.roles
    return {
        "image": assessment.image,
        "labels": {name: list(labels) for name, labels in assessment.settings.labels.items()},
        "protocol": assessment.settings.protocol,
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
        "seeds": assessment.settings.seeds,
        "segmenter": {"generator": segmenter.saved()["generator"], "steps": segmenter.config.train.steps},
        "arms": arm_summary(scores, columns, seed=assessment.experiment.config.seed),
        "meanings": {arm: ARMS[arm] for arm in assessment.arms},
        "warnings": list(assessment.warnings),
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
