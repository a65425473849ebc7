"""What is measured: a config's own method, data and device, with a cache that is thrown away."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from lightning_fabric import Fabric

from medtrans.config.experiment import Experiment
from medtrans.data.cohort import Cohort, Member
from medtrans.data.datamodule import DataModule, load_cohort
from medtrans.data.patches import worker_faults
from medtrans.distributed.devices import single_device_fabric
from medtrans.errors import DataError
from medtrans.inference.translator import Translator
from medtrans.plugins.interfaces import Method
from medtrans.training.build import make_method
from medtrans.training.trainer import fabric_batches
from medtrans.types import Batch

__all__ = ["CASES", "Subject", "opened_subject", "random_weights"]

CASES = 8
"""Training cases that are prepared; more would show nothing new and take their time."""

_ENDLESS = 10**9  # steps, so that no loader runs dry


@dataclass(frozen=True)
class Subject:
    """A config, ready to train.

    Args:
        experiment: the checked config.
        study: its first cases, prepared.
        method: networks and their update, set up.
        fabric: the device.
        cases: how many cases the config has.
    """

    experiment: Experiment
    data: DataModule
    method: Method
    fabric: Fabric
    cases: int

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.fabric.device

    @property
    def precision(self) -> str:
        """Fabric's name of it."""
        return str(self.fabric.strategy.precision.precision)

    @property
    def translator(self) -> Translator:
        """Of whole volumes, by the weights as they are."""
        return Translator(self.experiment, self.method, self.data.preprocessing, {})

    @property
    def volume(self) -> Member:
        """The case that is translated: one that was not trained on where there is one."""
        members = self.data.cohort.members
        return next((member for member in members if member.split != "train"), members[0])

    @contextmanager
    def batches(self) -> Iterator[Iterator[Batch]]:
        """Batches on the device without end."""
        with worker_faults(), closing(fabric_batches(self.data, self.method, self.fabric, 0)) as batches:
            yield batches

    def another_method(self) -> Method:
        """The same method with networks and optimisers of its own, which start from the same weights."""
        log = logging.getLogger("medtrans")
        level = log.level
        log.setLevel(logging.ERROR)  # what a loss warns of has been said
        try:
            method = make_method(self.experiment, training_cases=self.cases)
        finally:
            log.setLevel(level)
        method.setup(self.fabric)
        return method


@contextmanager
def opened_subject(experiment: Experiment, *, whole: bool = False) -> Iterator[Subject]:
    """Prepare the first cases of a config and set its method up; nothing is left behind.

    Args:
        experiment: the checked config.
        whole: prepare all of its cases.

    Raises:
        MedtransError: the cases, or a part of the config, are not as they should be.
    """
    cohort, _ = load_cohort(experiment)
    training = cohort.of("train")
    if not training:
        raise DataError("training: no case to cut patches from; give the training split at least one subject")
    settings = experiment.config.train.model_copy(update={"steps": _ENDLESS})
    endless = replace(experiment, config=experiment.config.model_copy(update={"train": settings}))
    with tempfile.TemporaryDirectory(prefix="medtrans-bench-") as folder:
        data = DataModule(endless, cohort if whole else _first(cohort), Path(folder))
        for member in data.cohort.members:
            data.cache.prepared(member)
        method = make_method(endless, training_cases=len(training))
        fabric = single_device_fabric(experiment.config.train)
        method.setup(fabric)
        yield Subject(endless, data, method, fabric, len(cohort.members))


def _first(cohort: Cohort) -> Cohort:
    """A few training cases, and one that is not trained on."""
    others: Sequence[Member] = [*cohort.of("validation"), *cohort.of("test")]
    return Cohort((*cohort.of("train")[:CASES], *others[:1]))


def random_weights(experiment: Experiment) -> list[str]:
    """Overrides by which losses read no file; they cost the same."""
    return [
        f"{'.'.join(path)}.options.weights=random"
        for path, slot in experiment.slots.items()
        if path[0] == "losses" and slot.options.get("weights") is not None
    ]
