"""The data of a run: its cohort with preprocessing, cache, fingerprint and anonymizer."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any, TypeAlias, cast

from medtrans.config.experiment import Experiment
from medtrans.config.protocols import PROTOCOLS
from medtrans.data.anonymize import Anonymizer
from medtrans.data.cache import Cache, check_duplicates
from medtrans.data.checks.cohort import clipping_warnings, uncovered_texts
from medtrans.data.checks.images import check_headers
from medtrans.data.cohort import (
    Cohort,
    Member,
    alike_faults,
    alike_warnings,
    build_cohort,
    load_images,
    read_case_table,
)
from medtrans.data.fingerprint import Fingerprint
from medtrans.data.preprocessing import Preprocessing, make_preprocessing
from medtrans.data.splits import SplitName
from medtrans.distributed.ranks import Ranks
from medtrans.distributed.signals import EndRequest
from medtrans.errors import DataError
from medtrans.plugins.interfaces import Dataset
from medtrans.utils.progress import progress_over
from medtrans.volume import Volume

__all__ = ["DataModule", "Learned", "load_cohort"]


Learned: TypeAlias = Mapping[str, Mapping[str, Sequence[float]]]
"""What scalings learnt from training cases: by modality, lists of numbers by name."""

_FINGERPRINTED = 200

_log = logging.getLogger("medtrans")


def load_cohort(experiment: Experiment, known: Path | None = None) -> tuple[Cohort, list[str]]:
    """List and split the config's cases and look at every header.

    Args:
        experiment: the checked config.
        known: the table of cases that a run has kept; where it is there, its cases, numbers and splits count.

    Returns:
        The cohort, and warnings.

    Raises:
        DataError: with everything that is wrong with the cases.
    """
    config = experiment.config
    dataset = cast("Dataset", experiment.build("dataset"))
    table = read_case_table(known) if known is not None and known.exists() else None
    cohort = build_cohort(
        dataset, config.split, source=config.source, target=config.target, seed=config.seed, known=table
    )
    without = [member for member in cohort.members if "mask" not in member.case.images]
    if config.preprocess.crop == "mask" and without:
        raise DataError(
            f"preprocess.crop: mask needs a mask for every case, {_some(without)}; give the dataset masks or crop to "
            "the foreground"
        )
    unscored = [member for member in without if member.split != "train"]
    if PROTOCOLS[config.protocol].mask == "required" and unscored:
        raise DataError(
            f"protocol: {config.protocol} scores inside a mask, {_some(unscored)}; give the dataset masks or leave the "
            "protocol out"
        )
    return cohort, check_headers(cohort, config.source, config.target, config.reading.rules)


def _some(members: Sequence[Member]) -> str:
    return f"{len(members)} have none (first: {', '.join(member.label for member in members[:3])})"


class DataModule:
    """A cohort with its preprocessing and cache.

    Args:
        experiment: the checked config.
        cohort: its cases.
        cache_folder: where preprocessed volumes are kept.
        learned: what the scalings learnt when the run was trained; None learns it from the training cases, before
            the first case is prepared.
    """

    def __init__(
        self, experiment: Experiment, cohort: Cohort, cache_folder: Path, *, learned: Learned | None = None
    ) -> None:
        self.experiment = experiment
        self.cohort = cohort
        self.preprocessing: Preprocessing = make_preprocessing(experiment)
        self._rules = experiment.config.reading.rules
        self.anonymizer = Anonymizer(cohort, experiment)
        self._cache_folder = cache_folder
        self._learned = learned
        self.target_numbers: Mapping[str, Mapping[str, float]] = {}
        self.backgrounds: Mapping[str, float] = {}

    @cached_property
    def cache(self) -> Cache:
        """The prepared cases; no case is prepared before all scalings know what they learn from training cases.

        Raises:
            DataError: a training case cannot be read or learnt from.
        """
        self.learn()
        settings = self.experiment.saved()
        key = {name: settings[name] for name in ("dataset", "source", "target", "preprocess")}
        key |= {"learned": self.preprocessing.learned}
        return Cache(self._cache_folder, self.preprocessing, key, self._rules)

    def learn(self) -> Learned:
        """Let the scalings learn from the training cases, or give them back what they learnt; returns it.

        Raises:
            DataError: a training case cannot be read or learnt from.
        """
        if self._learned is None:
            for modality in dict.fromkeys((*self.preprocessing.source, *self.preprocessing.target)):
                self._learn(modality)
        else:
            self.preprocessing.restore(self._learned)
        return self.preprocessing.learned

    def _learn(self, modality: str) -> None:
        reached = "training cases"

        def training() -> Iterator[dict[str, Volume]]:
            nonlocal reached
            for member in self.cohort.of("train"):
                reached = member.label
                wanted = dict.fromkeys([self.preprocessing.source[0], modality])
                if "mask" in member.case.images:
                    wanted["mask"] = None
                yield load_images(member.case, wanted, self._rules, self.preprocessing.scalings)

        try:
            self.preprocessing.learn(modality, training())
        except DataError as error:
            raise DataError(*(f"{reached}, {modality}: {fault}" for fault in error.faults)) from error

    def prepare(
        self, ranks: Ranks | None = None, request: EndRequest | None = None
    ) -> Mapping[str, Mapping[str, float]]:
        """Preprocess every case once, so that faults show before training; clipped intensities are logged.

        Args:
            ranks: of the run, which share the cases out.
            request: whether the run was asked to end; looked at after each case.

        Returns:
            For each target whose scaling is fitted, the median of the training targets' numbers, in which predictions
            are written.

        Raises:
            DataError: a case cannot be preprocessed, or the same voxels stand in two splits.
            RunInterruptedError: the run was asked to end.
        """
        ranks = ranks or Ranks()
        if ranks.count > 1:
            # One rank learns and tells the others: what differs in the last digit between machines would name other
            # cache entries, and each rank would prepare all cases.
            self._learned = ranks.first(self.learn)
        for member in progress_over(ranks.mine(self.cohort.members), "preprocessing"):
            self.cache.prepared(member)
            if request is not None and request.made:
                raise request.error(where="before the first step", how_to_resume="--overwrite, which begins anew")
        ranks.wait()
        fitted: dict[str, list[Mapping[str, float]]] = {}
        for member in self.cohort.members:
            numbers = self.cache.prepared(member).numbers
            for target in self.experiment.config.target if member.split == "train" else ():
                if self.preprocessing.scalings[target].fitted:
                    fitted.setdefault(target, []).append(numbers[target])
        preprocessing = self.preprocessing
        if same := alike_faults(self.cohort.members, self._digests(), preprocessing.source, preprocessing.target):
            raise DataError(*same)
        check_duplicates(self.cache, self.cohort.members)
        for warning in self.warnings() if ranks.leads else ():
            _log.warning("%s", warning)
        self.target_numbers = {
            target: {name: float(median(one[name] for one in several)) for name in several[0]}
            for target, several in fitted.items()
        }
        found = [self.cache.entry(member).backgrounds["target"] for member in self.cohort.of("train")]
        medians = [float(median(several)) for several in zip(*found, strict=True)]
        backgrounds = self.preprocessing.target_backgrounds(medians)
        self.backgrounds = dict(zip(self.preprocessing.target, backgrounds, strict=True))
        return self.target_numbers

    def identities(self, splits: Sequence[SplitName] = ("train", "validation", "test")) -> dict[str, dict[str, Any]]:
        """By case number its split, and a hash of the voxels of each image, by which it is known again.

        Neither a path nor a name is among them, and neither where a file lies nor how it is packed counts. Raises as
        `prepare`.
        """
        members = [member for member in self.cohort.members if member.split in splits]
        return {
            member.label: {"split": member.split, "voxels": dict(self.cache.entry(member).voxels)} for member in members
        }

    def warnings(self) -> list[str]:
        """Of images that needed a reading rule, and of intensities that a scaling clips; raises as `prepare`."""
        by_rule = [
            f"{member.label}, {modality}: {note}"
            for member in self.cohort.members
            for modality, notes in self.cache.entry(member).notes.items()
            for note in notes
        ]
        prepared = ((member.label, self.cache.prepared(member)) for member in self.cohort.members)
        found = [*alike_warnings(self.cohort.members, self._digests(), self.preprocessing.source)]
        for member in self.cohort.members:
            shares = self.cache.prepared(member).uncovered
            found += [f"{member.label}, {text}" for text in uncovered_texts(shares).values()]
        return by_rule + found + clipping_warnings(prepared, self.preprocessing.scalings)

    def smallest_scored(self) -> Member | None:
        """The case to be scored with the shortest side, on which a metric fails first; raises as `prepare`."""
        scored = [member for member in self.cohort.members if member.split != "train"]
        return min(scored, key=lambda member: sorted(self.cache.prepared(member).native.shape), default=None)

    def uncovered(self) -> dict[str, dict[str, float]]:
        """For each case with a field of view that ends early, by modality, the share of voxels without data."""
        found = {member.label: self.cache.prepared(member).uncovered for member in self.cohort.members}
        return {label: dict(shares) for label, shares in found.items() if shares}

    def _digests(self) -> list[Mapping[str, str]]:
        return [self.cache.entry(member).voxels for member in self.cohort.members]

    def fingerprint(self) -> dict[str, Any] | None:
        """What the sources of the training cases look like, of at most 200 of them; raises as `prepare`."""
        members = self.cohort.of("train")
        some = members[:: -(-len(members) // _FINGERPRINTED)] if members else ()
        found = Fingerprint.of(
            (self.cache.prepared(member) for member in some), self.preprocessing.scalings, self.preprocessing.source
        )
        return None if found is None else found.as_data()

    def translating_facts(self) -> dict[str, Any]:
        """What prediction needs beside the weights, plain values for each checkpoint; raises as `prepare`."""
        return {
            "target_numbers": {name: dict(numbers) for name, numbers in self.target_numbers.items()},
            "backgrounds": dict(self.backgrounds),
            "learned": self.preprocessing.learned,
            "fingerprint": self.fingerprint(),
            "masked": any("mask" in member.case.images for member in self.cohort.of("train")),
        }
