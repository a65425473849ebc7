"""Scores of a run's validation cases while it trains, by the weights as they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from statistics import fmean

import numpy as np

from medtrans.data.cohort import Member
from medtrans.data.datamodule import DataModule
from medtrans.data.preprocessing import Prepared
from medtrans.distributed.ranks import Ranks
from medtrans.errors import DataError
from medtrans.evaluation.scorer import Reference, Scorer
from medtrans.evaluation.scores import CaseScores
from medtrans.inference.translator import Translator
from medtrans.plugins.interfaces import Callback, Scored
from medtrans.training.gan_monitor.monitor import GanMonitor
from medtrans.training.nan_guard import LOG_INTERVAL

__all__ = ["Validator", "predicted", "retranslated", "validation_scores"]


class Validator:
    """What the trainer calls when a validation is due; ranks share the cases out.

    Args:
        study: the run's cases.
        judge: of predictions.
        translator: with the networks that are trained.
        ranks: of the run.
    """

    def __init__(self, study: DataModule, judge: Scorer, translator: Translator, ranks: Ranks | None = None) -> None:
        settings, columns = study.experiment.config.train, judge.columns
        self._study, self._judge, self._translator, self._ranks = study, judge, translator, ranks or Ranks()
        self.members = study.cohort.of("validation")[: settings.validation_cases]
        self.best = next((name for name in columns if settings.best in (name, name.rpartition("_")[0])), None)
        self.best_is_higher = columns[self.best].higher_is_better if self.best else True
        self._watch: GanMonitor | None = None
        if self._ranks.leads:
            judged_by = self.best or next(iter(columns))
            cases = len(self._ranks.mine(self.members))
            self._watch = GanMonitor(
                LOG_INTERVAL, judged_by, higher_is_better=columns[judged_by].higher_is_better, cases=cases
            )

    @property
    def callbacks(self) -> tuple[Callback, ...]:
        """What looks at the validated cases and has to hear of each step too; none but on the leading rank."""
        return () if self._watch is None else (self._watch,)

    def __call__(self) -> tuple[Mapping[str, float], list[Scored]]:
        """The mean of each column, and each case's scores and picture.

        Raises:
            DataError: a case cannot be read, or its translation is not finite; names it.
        """
        names, mine = self._study.experiment.config.names, self._ranks.mine(self.members)
        found = self._ranks.gather(validation_scores(self._study, self._judge, self._translator, mine, self._watch))
        scored = [Scored(scores.case if names else scores.label, scores.values, picture) for scores, picture in found]
        return {name: fmean(case.scores[name] for case in scored) for name in scored[0].scores}, scored


def validation_scores(
    study: DataModule, judge: Scorer, translator: Translator, members: Sequence[Member], watch: GanMonitor | None = None
) -> list[tuple[CaseScores, np.ndarray]]:
    """Scores and a picture of each member, by the weights as they are now; the watch sees each.

    Raises:
        DataError: a case cannot be read, or its translation is not finite; names it.
    """
    found = []
    for member in members:
        prepared = study.cache.prepared(member)
        scaled = predicted(translator, prepared, member)
        truth = judge.truth(member, prepared)
        picture = judge.picture(scaled, prepared)
        scores = judge.scores(scaled, prepared, truth, member, retranslated(translator, prepared))
        found.append((scores, picture))
        if watch is not None:
            watch.see_case(
                member.number,
                prepared,
                scaled,
                study.cache.entry(member).foreground,
                scores.values[watch.judged_by],
                partial(_score_of, judge, watch.judged_by, member, prepared, truth),
            )
    return found


def predicted(translator: Translator, prepared: Prepared, member: Member) -> np.ndarray:
    """A member's translation `(c, i, j, k)` in [0, 1]; a fault names the member."""
    try:
        return translator.predict(prepared)
    except DataError as error:
        raise DataError(*(f"{member.label}: {fault}" for fault in error.faults)) from error


def retranslated(translator: Translator, prepared: Prepared) -> Callable[[float], np.ndarray]:
    """Makes the prediction again with windows moved by a share of their side."""
    return lambda shift: translator.predict(prepared, shift=shift)


def _score_of(
    judge: Scorer, name: str, member: Member, prepared: Prepared, truth: Reference, prediction: np.ndarray
) -> float:
    return judge.scores(prediction, prepared, truth, member).values[name]
