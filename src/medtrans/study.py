"""Owns what a run works on: its cases, their preprocessing and cache, and the judge of predictions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import cast

from medtrans.assembly import make_metrics, make_preprocessing
from medtrans.cache import Cache, refuse_twins
from medtrans.cohort import Cohort, gather, preflight
from medtrans.components import Dataset
from medtrans.config import Experiment
from medtrans.errors import DataError
from medtrans.judging import Judge
from medtrans.preprocess import Preprocessing
from medtrans.progress import progress_over

__all__ = ["Study", "gather_cohort"]


def gather_cohort(experiment: Experiment) -> tuple[Cohort, list[str]]:
    """List and split the config's cases and look at every header.

    Returns:
        The cohort, and warnings.

    Raises:
        DataError: with everything that is wrong with the cases.
    """
    config = experiment.config
    dataset = cast("Dataset", experiment.build("dataset"))
    cohort = gather(dataset, config.split, source=config.source, target=config.target, seed=config.seed)
    if config.preprocess.crop == "mask":
        without = [member.label for member in cohort.members if "mask" not in member.case.images]
        if without:
            raise DataError(
                f"preprocess.crop: mask needs a mask for every case, {len(without)} have none "
                f"(first: {', '.join(without[:3])}); give the dataset masks or crop to the foreground"
            )
    return cohort, preflight(cohort, config.source, config.target)


class Study:
    """A cohort with its preprocessing, cache and judge.

    Args:
        experiment: the checked config.
        cohort: its cases.
        cache_folder: where preprocessed volumes are kept.
    """

    def __init__(self, experiment: Experiment, cohort: Cohort, cache_folder: Path) -> None:
        config = experiment.config
        self.experiment = experiment
        self.cohort = cohort
        self.preprocessing: Preprocessing = make_preprocessing(experiment)
        settings = experiment.saved()
        key = {name: settings[name] for name in ("dataset", "source", "target", "preprocess")}
        self.cache = Cache(cache_folder, self.preprocessing, key)
        self.judge = Judge(self.preprocessing, make_metrics(experiment, self.preprocessing), config.target)

    def prepare(self) -> dict[str, dict[str, float]]:
        """Preprocess every case once, so that faults show before training.

        Returns:
            For each target whose scaling is fitted, the median of the training targets' numbers, in which predictions
            are written.

        Raises:
            DataError: a case cannot be preprocessed, or the same voxels stand in two splits.
        """
        fitted: dict[str, list[Mapping[str, float]]] = {}
        for member in progress_over(self.cohort.members, "preprocessing"):
            numbers = self.cache.prepared(member).numbers
            for target in self.experiment.config.target if member.split == "train" else ():
                if self.preprocessing.scalings[target].fitted:
                    fitted.setdefault(target, []).append(numbers[target])
        refuse_twins(self.cache, self.cohort.members)
        return {
            target: {name: float(median(one[name] for one in several)) for name in several[0]}
            for target, several in fitted.items()
        }
