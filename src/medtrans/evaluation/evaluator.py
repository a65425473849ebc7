"""The verdict on a trained run: test cases translated, written, scored, and beside them the trivial baselines."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medtrans._version import __version__
from medtrans.data.cohort import Member
from medtrans.data.datamodule import DataModule
from medtrans.data.preprocessing import Prepared
from medtrans.distributed.ranks import Ranks
from medtrans.distributed.signals import EndRequest
from medtrans.evaluation.baselines import Baseline, fit_baselines
from medtrans.evaluation.example_volumes import keep_volumes
from medtrans.evaluation.faithfulness.checks import FaithfulnessChecks, FaithfulnessResults
from medtrans.evaluation.montage import png_bytes
from medtrans.evaluation.scorer import Scorer
from medtrans.evaluation.scores import CaseScores, write_metrics_csv
from medtrans.evaluation.statistics import summary_of, worst_median_best
from medtrans.evaluation.validation import predicted, retranslated
from medtrans.inference.prediction import file_stems
from medtrans.inference.translator import Translator
from medtrans.runs.folder import RunFolder
from medtrans.training.costs import keep_translation_costs
from medtrans.training.gan_monitor.monitor import monitor_log_in
from medtrans.utils.files import complete_file, write_json
from medtrans.utils.progress import progress_over
from medtrans.volume import read, write

__all__ = ["score_test_cases"]


_log = logging.getLogger("medtrans")


@dataclass(frozen=True)
class _Assessed:
    """One test case: its scores, those of each baseline, its picture, and the seconds its translation took."""

    model: CaseScores
    baselines: Mapping[str, CaseScores]
    picture: np.ndarray
    seconds: float


def score_test_cases(
    study: DataModule,
    judge: Scorer,
    translator: Translator,
    folder: RunFolder,
    warnings: Sequence[str],
    *,
    ranks: Ranks | None = None,
    request: EndRequest | None = None,
) -> None:
    """Translate and score every test case; leave predictions, metrics.csv, summary.json and pictures.

    The baselines are fitted on training cases and scored on the same test cases in the same way.

    Args:
        study: the cases.
        judge: of predictions.
        translator: with the weights to assess.
        folder: of the run.
        warnings: to keep beside the scores.
        ranks: of the run, which share the cases out; the leading one writes what is about all of them.
        request: whether the run was asked to end; looked at after each case.

    Raises:
        DataError: a case cannot be read, or its translation is not finite; names it.
        RunInterruptedError: the run was asked to end.
    """
    ranks = ranks or Ranks()
    baselines = fit_baselines(study.cache.prepared(member) for member in study.cohort.of("train"))
    test = study.cohort.of("test")
    settings = study.experiment.config.faithfulness
    tested = frozenset(member.number for member in test[: settings.lesion_cases])
    watch = FaithfulnessChecks(translator, baselines["source_lut"], tested, settings.lesions)
    stems = file_stems(study.cohort.members, study.experiment.config.target)
    mine = []
    for member in progress_over(ranks.mine(test), "test cases"):
        mine.append(_assessed(study, judge, translator, folder, stems, member, baselines, watch))
        if request is not None and request.made:
            raise request.error(where="training is done", how_to_resume=f"medtrans run {folder.config} --resume")
    found, watched = ranks.gather(mine), ranks.gather([watch.watched])
    if ranks.leads:
        _leave(study, judge, folder, stems, found, list(baselines), warnings, FaithfulnessResults.together(watched))


def _assessed(
    study: DataModule,
    judge: Scorer,
    translator: Translator,
    folder: RunFolder,
    stems: Mapping[tuple[int, str], str],
    member: Member,
    baselines: Mapping[str, Baseline],
    watch: FaithfulnessChecks,
) -> _Assessed:
    prepared = study.cache.prepared(member)
    begun = time.perf_counter()
    scaled = predicted(translator, prepared, member)
    seconds = time.perf_counter() - begun
    targets = study.experiment.config.target
    paths = {target: folder.predictions / f"{stems[member.number, target]}.nii.gz" for target in targets}
    _write_prediction(translator, scaled, prepared, paths)
    watch.see(member, prepared, scaled)
    truth = judge.truth(member, prepared)
    return _Assessed(
        judge.scores(scaled, prepared, truth, member, retranslated(translator, prepared)),
        {
            name: judge.scores(baseline.predict(prepared), prepared, truth, member)
            for name, baseline in baselines.items()
        },
        judge.picture(scaled, prepared),
        seconds,
    )


def _leave(
    study: DataModule,
    judge: Scorer,
    folder: RunFolder,
    stems: Mapping[tuple[int, str], str],
    found: Sequence[_Assessed],
    baselines: Sequence[str],
    warnings: Sequence[str],
    watched: FaithfulnessResults,
) -> None:
    rows = [one.model for one in found]
    of_baselines = {name: [one.baselines[name] for one in found] for name in baselines}
    columns = judge.columns
    write_metrics_csv(folder.metrics, rows)
    _tell(study, rows)
    write_json(folder.faithfulness, watched.report())
    in_training = monitor_log_in(folder.monitor).warnings()
    warnings = [*warnings, *study.warnings(), *in_training, *watched.warnings()]
    warnings = [study.anonymizer.shareable(one) for one in warnings]
    summary = summary_of(
        rows,
        of_baselines,
        columns,
        warnings=warnings,
        seed=study.experiment.config.seed,
        protocol=study.experiment.config.protocol,
        scored_in=judge.scored_in,
    )
    write_json(folder.summary, summary)
    keep_translation_costs(folder.costs, [one.seconds for one in found])
    first = next(iter(columns))
    pictures = {one.model.label: one.picture for one in found}
    chosen = worst_median_best(rows, first, columns[first])
    _write_pictures(folder, chosen, pictures)
    _keep_volumes(study, folder, chosen, stems)


def _tell(study: DataModule, rows: Sequence[CaseScores]) -> None:
    """Log each case's scores under the name that the run shows."""
    for row in rows:
        values = ", ".join(f"{name} {value:.4g}" for name, value in row.values.items())
        _log.info("%s: %s", row.case if study.experiment.config.names else row.label, values)


def _write_prediction(
    translator: Translator, scaled: np.ndarray, prepared: Prepared, paths: Mapping[str, Path]
) -> None:
    for target, volume in translator.restore(scaled, prepared).items():
        path = paths[target]
        write(volume, path, description=f"medtrans {__version__}: synthetic, research use only")
        write_json(path.with_name(path.name.replace(".nii.gz", ".json")), translator.sidecar(target))


def _keep_volumes(
    study: DataModule, folder: RunFolder, chosen: Mapping[str, CaseScores], stems: Mapping[tuple[int, str], str]
) -> None:
    """What an interactive viewer needs of the shown cases."""
    config = study.experiment.config
    members = {member.label: member for member in study.cohort.members}
    for rank, scores in chosen.items():
        member, target = members[scores.label], config.target[0]
        keep_volumes(
            folder.pictures,
            f"{rank}_{scores.label}",
            member,
            read(folder.predictions / f"{stems[member.number, target]}.nii.gz"),
            source=config.source[0],
            target=target,
            rules=config.reading.rules,
        )


def _write_pictures(folder: RunFolder, chosen: Mapping[str, CaseScores], pictures: Mapping[str, np.ndarray]) -> None:
    folder.pictures.mkdir(exist_ok=True)
    for old in (*folder.pictures.glob("*.png"), *folder.pictures.glob("*.nii.gz")):
        old.unlink()
    for rank, scores in chosen.items():
        with complete_file(folder.pictures / f"{rank}_{scores.label}.png") as temporary:
            temporary.write_bytes(png_bytes(pictures[scores.label]))
