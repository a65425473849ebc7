"""The verdict on a trained run: test cases translated, written, scored, and beside them the trivial baselines."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import iadd
from pathlib import Path

from medtrans._version import __version__
from medtrans.data.datamodule import DataModule
from medtrans.distributed.ranks import Ranks
from medtrans.distributed.signals import EndRequest
from medtrans.evaluation.agreement import Agreement, agreement_facts
from medtrans.evaluation.baselines import fit_baselines
from medtrans.evaluation.faithfulness import FaithfulnessChecks, FaithfulnessResults
from medtrans.evaluation.pictures import Montage, keep_volumes, png_bytes
from medtrans.evaluation.scorer import Scorer
from medtrans.evaluation.scores import CaseScores, write_metrics_csv
from medtrans.evaluation.statistics import summary_of, worst_median_best
from medtrans.evaluation.validation import TranslatedCase, translate_and_score
from medtrans.inference.prediction import file_stems
from medtrans.inference.translator import Translator
from medtrans.runs.folder import RunFolder
from medtrans.training.costs import keep_translation_costs
from medtrans.training.gan_monitor import MonitorLog
from medtrans.utils.files import complete_file, write_json
from medtrans.utils.progress import progress_over
from medtrans.volume import read, write

__all__ = ["score_test_cases"]


_log = logging.getLogger("medtrans")


@dataclass(frozen=True)
class _TestCase:
    """What is kept of a test case until all are scored; its picture is drawn only if it is one of those shown."""

    scores: CaseScores
    baselines: Mapping[str, CaseScores]
    montage: Montage
    agreement: Mapping[str, Agreement]
    seconds: float


def score_test_cases(
    data: DataModule,
    scorer: Scorer,
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
        data: the cases.
        scorer: of predictions.
        translator: with the weights to assess.
        folder: of the run.
        warnings: to keep beside the scores.
        ranks: of the run, which share the cases out; the leading one writes what is about all of them.
        request: whether the run was asked to end; looked at after each case.

    Raises:
        DataError: a case cannot be read, or its translation is not finite; names it.
        RunInterruptedError: the run was asked to end.
    """
    ranks, config = ranks or Ranks(), data.experiment.config
    baselines = fit_baselines(data.cache.prepared(member) for member in data.cohort.of("train"))
    test = data.cohort.of("test")
    lesion_cases = frozenset(member.number for member in test[: config.faithfulness.lesion_cases])
    checks = FaithfulnessChecks(translator, baselines["source_lut"], lesion_cases, config.faithfulness.lesions)
    stems = file_stems(data.cohort.members, config.target)
    paths = {key: folder.predictions / f"{stem}.nii.gz" for key, stem in stems.items()}
    mine = []
    for member in progress_over(ranks.mine(test), "test cases"):
        case = translate_and_score(data, scorer, translator, member)
        _write_prediction(translator, case, {target: paths[member.number, target] for target in config.target})
        checks.check(member, case.prepared, case.scaled)
        by_baseline = {
            name: scorer.scores(baseline.predict(case.prepared), case.prepared, case.reference, member)
            for name, baseline in baselines.items()
        }
        montage = scorer.montage(case.scaled, case.prepared)
        agreement = scorer.agreement(case.scaled, case.prepared, case.reference)
        mine.append(_TestCase(case.scores, by_baseline, montage, agreement, case.seconds))
        if request is not None and request.made:
            raise request.error(where="training is done", how_to_resume=f"medtrans run {folder.config} --resume")
    found, results = ranks.gather(mine), ranks.gather([checks.results])
    if ranks.leads:
        chosen = _write_scores(data, scorer, folder, found, list(baselines), warnings, reduce(iadd, results))
        _write_pictures(data, folder, chosen, {case.scores.label: case.montage for case in found}, paths)
        agreements = {case.scores.label: case.agreement for case in found}
        write_json(folder.errors, agreement_facts(agreements, scorer.units))


def _write_prediction(translator: Translator, case: TranslatedCase, paths: Mapping[str, Path]) -> None:
    for target, volume in translator.restore(case.scaled, case.prepared).items():
        path = paths[target]
        write(volume, path, description=f"medtrans {__version__}: synthetic, research use only")
        write_json(path.with_name(path.name.replace(".nii.gz", ".json")), translator.sidecar(target))


def _write_scores(
    data: DataModule,
    scorer: Scorer,
    folder: RunFolder,
    found: Sequence[_TestCase],
    baselines: Sequence[str],
    warnings: Sequence[str],
    results: FaithfulnessResults,
) -> dict[str, CaseScores]:
    """Write and log all that is about all cases; returns those that a report shows."""
    rows, columns, config = [case.scores for case in found], scorer.columns, data.experiment.config
    write_metrics_csv(folder.metrics, rows)
    for row in rows:
        values = ", ".join(f"{name} {value:.4g}" for name, value in row.values.items())
        _log.info("%s: %s", row.case if config.names else row.label, values)
    write_json(folder.faithfulness, results.report())
    in_training = MonitorLog.read(folder.monitor).warnings()
    warnings = [*warnings, *data.warnings(), *in_training, *results.warnings()]
    summary = summary_of(
        rows,
        {name: [case.baselines[name] for case in found] for name in baselines},
        columns,
        warnings=[data.anonymizer.shareable(one) for one in warnings],
        seed=config.seed,
        protocol=config.protocol,
        scored_in=scorer.scored_in,
    )
    if uncovered := data.uncovered():
        summary["uncovered"] = uncovered
    write_json(folder.summary, summary)
    keep_translation_costs(folder.costs, [case.seconds for case in found])
    first = next(iter(columns))
    return worst_median_best(rows, first, columns[first])


def _write_pictures(
    data: DataModule,
    folder: RunFolder,
    chosen: Mapping[str, CaseScores],
    montages: Mapping[str, Montage],
    paths: Mapping[tuple[int, str], Path],
) -> None:
    """The pictures of the shown cases, and the volumes that an interactive viewer needs."""
    config, members = data.experiment.config, {member.label: member for member in data.cohort.members}
    folder.pictures.mkdir(exist_ok=True)
    for old in (*folder.pictures.glob("*.png"), *folder.pictures.glob("*.nii.gz")):
        old.unlink()
    for rank, scores in chosen.items():
        member, stem, target = members[scores.label], f"{rank}_{scores.label}", config.target[0]
        with complete_file(folder.pictures / f"{stem}.png") as temporary:
            temporary.write_bytes(png_bytes(montages[scores.label].draw()))
        keep_volumes(
            folder.pictures,
            stem,
            member,
            read(paths[member.number, target]),
            source=config.source[0],
            target=target,
            rules=config.reading.rules,
        )
