"""Scores of a run's validation cases while it trains, by the weights as they are."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean

import numpy as np

from medtrans.data.cohort import Member
from medtrans.data.datamodule import DataModule
from medtrans.data.preprocessing import Prepared
from medtrans.distributed.ranks import Ranks
from medtrans.errors import DataError
from medtrans.evaluation.pictures import Montage
from medtrans.evaluation.scorer import Reference, Scorer
from medtrans.evaluation.scores import CaseScores
from medtrans.inference.translator import Translator
from medtrans.plugins.interfaces import Callback, Scored
from medtrans.training.gan_monitor import GanMonitor
from medtrans.training.nan_guard import LOG_INTERVAL

__all__ = ["TranslatedCase", "Validator", "translate_and_score"]


def _mean(values: Sequence[float]) -> float:
    """The mean of those that are defined; NaN where none is."""
    defined = [value for value in values if not math.isnan(value)]
    return fmean(defined) if defined else math.nan


@dataclass(frozen=True)
class TranslatedCase:
    """A case, its translation `(c, i, j, k)` in [0, 1], the seconds that took, and its scores."""

    prepared: Prepared
    scaled: np.ndarray
    seconds: float
    reference: Reference
    scores: CaseScores


def translate_and_score(data: DataModule, scorer: Scorer, translator: Translator, member: Member) -> TranslatedCase:
    """Translate a member's prepared source, and score the translation against its target.

    Raises:
        DataError: the case cannot be read, or its translation is not finite; names it.
    """
    prepared = data.cache.prepared(member)
    begun = time.perf_counter()
    try:
        scaled = translator.predict(prepared)
    except DataError as error:
        raise DataError(*(f"{member.label}: {fault}" for fault in error.faults)) from error
    seconds = time.perf_counter() - begun
    reference = scorer.reference(member, prepared)
    scores = scorer.scores(scaled, prepared, reference, member, lambda shift: translator.predict(prepared, shift=shift))
    return TranslatedCase(prepared, scaled, seconds, reference, scores)


class _ScoredCase(Scored):
    """Draws its picture when a callback asks for it: most do not, and drawing takes longer than scoring."""

    _montage: Montage

    def __init__(self, label: str, scores: Mapping[str, float], montage: Montage) -> None:
        for name, value in (("label", label), ("scores", scores), ("_montage", montage)):
            object.__setattr__(self, name, value)

    @cached_property
    def picture(self) -> np.ndarray:
        return self._montage.draw()


class Validator:
    """What the trainer calls when a validation is due; ranks share the cases out.

    Args:
        data: the run's cases.
        scorer: of predictions.
        translator: with the networks that are trained.
        ranks: of the run.
    """

    def __init__(self, data: DataModule, scorer: Scorer, translator: Translator, ranks: Ranks | None = None) -> None:
        settings, columns = data.experiment.config.train, scorer.columns
        self._data, self._scorer, self._translator, self._ranks = data, scorer, translator, ranks or Ranks()
        self.members = data.cohort.of("validation")[: settings.validation_cases]
        self.best = next((name for name in columns if settings.best in (name, name.rpartition("_")[0])), None)
        self.best_is_higher = columns[self.best].higher_is_better if self.best else True
        self._monitor: GanMonitor | None = None
        if self._ranks.leads:
            metric = self.best or next(iter(columns))
            cases = len(self._ranks.mine(self.members))
            self._monitor = GanMonitor(
                LOG_INTERVAL, metric, higher_is_better=columns[metric].higher_is_better, cases=cases
            )

    @property
    def callbacks(self) -> tuple[Callback, ...]:
        """What looks at the validated cases and has to hear of each step too; none but on the leading rank."""
        return () if self._monitor is None else (self._monitor,)

    def __call__(self) -> tuple[Mapping[str, float], Sequence[Scored]]:
        """The mean of each column, and each case's scores and picture.

        Raises:
            DataError: a case cannot be read, or its translation is not finite; names it.
        """
        names = self._data.experiment.config.names
        found = self._ranks.gather([self._validated(member) for member in self._ranks.mine(self.members)])
        scored = [
            _ScoredCase(scores.case if names else scores.label, scores.values, montage) for scores, montage in found
        ]
        return {name: _mean([case.scores[name] for case in scored]) for name in scored[0].scores}, scored

    def _validated(self, member: Member) -> tuple[CaseScores, Montage]:
        case = translate_and_score(self._data, self._scorer, self._translator, member)
        if self._monitor is not None:
            metric = self._monitor.metric

            def score(prediction: np.ndarray) -> float:
                return self._scorer.scores(prediction, case.prepared, case.reference, member).values[metric]

            foreground = self._data.cache.entry(member).foreground
            value = case.scores.values[metric]
            self._monitor.add_case(member.number, case.prepared, case.scaled, foreground, value, score)
        return case.scores, self._scorer.montage(case.scaled, case.prepared)
