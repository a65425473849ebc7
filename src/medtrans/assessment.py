"""Owns the verdict on a trained run: test cases translated, written, scored, and beside them the trivial baselines."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from medtrans._version import __version__
from medtrans.atomic import complete_file, write_json
from medtrans.baselines import Baseline, fit_baselines
from medtrans.cohort import Member
from medtrans.evaluation import write_metrics_csv
from medtrans.inference import Translator
from medtrans.pictures import png_bytes
from medtrans.preprocess import Prepared
from medtrans.progress import progress_over
from medtrans.runfolder import RunFolder
from medtrans.statistics import CaseScores, summary_of, worst_median_best
from medtrans.study import Study
from medtrans.volume import write

__all__ = ["assess", "validation_scores"]


@dataclass
class _Scores:
    model: list[CaseScores] = field(default_factory=list)
    baselines: dict[str, list[CaseScores]] = field(default_factory=dict)


def validation_scores(
    study: Study, translator: Translator, members: Sequence[Member]
) -> list[tuple[CaseScores, np.ndarray]]:
    """Scores and a picture of each member, by the weights as they are now."""
    found = []
    for member in members:
        prepared = study.cache.prepared(member)
        scaled = translator.predict(prepared)
        truth = study.judge.truth(member, prepared)
        picture = study.judge.picture(scaled, prepared)
        found.append((study.judge.scores(scaled, prepared, truth, member), picture))
    return found


def assess(study: Study, translator: Translator, folder: RunFolder, warnings: Sequence[str]) -> None:
    """Translate and score every test case; leave predictions, metrics.csv, summary.json and pictures.

    The baselines are fitted on training cases and scored on the same test cases in the same way.
    """
    baselines = fit_baselines(study.cache.prepared(member) for member in study.cohort.of("train"))
    scores = _Scores(baselines={name: [] for name in baselines})
    pictures: dict[str, np.ndarray] = {}
    for member in progress_over(study.cohort.of("test"), "test cases"):
        prepared = study.cache.prepared(member)
        scaled = translator.predict(prepared)
        _write_prediction(translator, folder, member, scaled, prepared)
        _score(study, scores, baselines, member, scaled, prepared)
        pictures[member.label] = study.judge.picture(scaled, prepared)
    columns = study.judge.columns
    write_metrics_csv(folder.metrics, scores.model)
    seed = study.experiment.config.seed
    write_json(folder.summary, summary_of(scores.model, scores.baselines, columns, warnings=warnings, seed=seed))
    first = next(iter(columns))
    _write_pictures(folder, worst_median_best(scores.model, first, columns[first]), pictures)


def _score(
    study: Study,
    scores: _Scores,
    baselines: Mapping[str, Baseline],
    member: Member,
    scaled: np.ndarray,
    prepared: Prepared,
) -> None:
    truth = study.judge.truth(member, prepared)
    scores.model.append(study.judge.scores(scaled, prepared, truth, member))
    for name, baseline in baselines.items():
        scores.baselines[name].append(study.judge.scores(baseline.predict(prepared), prepared, truth, member))


def _write_prediction(
    translator: Translator, folder: RunFolder, member: Member, scaled: np.ndarray, prepared: Prepared
) -> None:
    for target, volume in translator.restore(scaled, prepared).items():
        path = folder.predictions / f"{_file_name(member)}_{target}.nii.gz"
        write(volume, path, description=f"medtrans {__version__}: synthetic, research use only")
        write_json(path.with_name(path.name.replace(".nii.gz", ".json")), translator.sidecar(target))


def _file_name(member: Member) -> str:
    """The case's id where it can name a file, else made so and told apart by the case's number."""
    safe = re.sub(r"[^A-Za-z0-9_-]+", "_", member.case.case)[:80]
    return safe if safe == member.case.case else f"{safe}_{member.number:04d}"


def _write_pictures(folder: RunFolder, chosen: Mapping[str, CaseScores], pictures: Mapping[str, np.ndarray]) -> None:
    folder.pictures.mkdir(exist_ok=True)
    for old in folder.pictures.glob("*.png"):
        old.unlink()
    for rank, scores in chosen.items():
        with complete_file(folder.pictures / f"{rank}_{scores.label}.png") as temporary:
            temporary.write_bytes(png_bytes(pictures[scores.label]))
