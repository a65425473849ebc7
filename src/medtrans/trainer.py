"""The joining of a study, a method and the training loop."""

from __future__ import annotations

import logging
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from math import prod
from typing import Protocol

from lightning_fabric import Fabric

from medtrans import checkpoint
from medtrans.comparison import patch_warnings
from medtrans.compilation import refuse_without_compiler
from medtrans.components import Callback, Method, RunInfo, Scored
from medtrans.costs import StepClock, keep_training_costs
from medtrans.errors import ConfigError
from medtrans.initialise import initialise
from medtrans.inspection import Findings
from medtrans.network_sides import common_multiple, padded_sides
from medtrans.patches import training_loader
from medtrans.ranks import Ranks
from medtrans.recomputation import names_blocks
from medtrans.resumption import config_hash, facts_of
from medtrans.room import refuse_full_disk
from medtrans.runfolder import RunFolder
from medtrans.signals import EndRequest
from medtrans.standing import Standing, Stateful, checkpoint_bytes, restore_marks, resume
from medtrans.study import Study
from medtrans.training import Plan, train
from medtrans.types import Batch
from medtrans.workers import refuse_small_shared_memory, worker_faults

__all__ = ["train_method"]

_log = logging.getLogger("medtrans")


class Validator(Protocol):
    """What scores the validation cases; the trainer is handed one, so that it need not know how scores are made."""

    @property
    def members(self) -> Sequence[object]:
        """The validation cases; none where nothing is validated."""

    @property
    def best(self) -> str | None:
        """The column that chooses the best weights; None for none."""

    @property
    def best_is_higher(self) -> bool:
        """Its direction."""

    @property
    def callbacks(self) -> Sequence[Callback]:
        """What looks at the validated cases and has to hear of each step too."""

    def __call__(self) -> tuple[Mapping[str, float], Sequence[Scored]]:
        """The mean of each column, and each case's scores and picture, by the weights as they are."""


def train_method(
    study: Study,
    method: Method,
    validator: Validator,
    fabric: Fabric,
    folder: RunFolder,
    *,
    continued: bool,
    ranks: Ranks | None = None,
    request: EndRequest | None = None,
) -> None:
    """Train to the config's last step, from the newest checkpoint where the run is continued.

    Args:
        study: what is trained on.
        method: networks and their update.
        validator: scores the validation cases.
        fabric: the device, launched.
        folder: of the run.
        continued: whether the newest checkpoint is gone on from.
        ranks: of the run.
        request: whether the run was asked to end.

    Raises:
        ConfigError: there is no checkpoint to continue from.
        SetupError: the disk is too full, or so is the shared memory that workers hand patches over in.
        TrainingError: training had to stop.
        RunInterruptedError: the run was asked to end.
    """
    config, ranks = study.experiment.config, ranks or Ranks()
    if not continued and config.train.initialise_from is not None:
        initialise(method, config.train.initialise_from)
    for warning in _doubts(study, method) if ranks.leads else ():
        _log.warning("%s", warning)
    if config.train.compile is not None:
        refuse_without_compiler(fabric.device)
    method.setup(fabric)
    if ranks.leads:
        refuse_full_disk(folder.checkpoints, 2 * checkpoint_bytes(method), what="two checkpoints need about")
    plan, precision = _plan(study, validator, fabric, folder), fabric.strategy.precision
    standing = _standing(method, folder, ranks, precision, plan.best) if continued else Standing()
    callbacks: list[Callback] = [
        study.experiment.build("callbacks", name) for name in study.experiment.under("callbacks") if ranks.leads
    ]
    run = RunInfo(folder.path, study.experiment.saved(), standing.step, config.train.steps)
    callbacks += validator.callbacks
    clock = StepClock()
    callbacks += [clock] if ranks.leads else []
    with worker_faults(), closing(fabric_batches(study, method, fabric, standing.step)) as batches:
        train(
            method,
            batches,
            plan,
            standing=standing,
            validate=validator if validator.members else None,
            callbacks=callbacks,
            run=run,
            ranks=ranks,
            request=request,
            precision=precision,
        )
    if ranks.leads:
        keep_training_costs(folder.costs, method.networks(), clock, ranks.count)


def _doubts(study: Study, method: Method) -> list[str]:
    """What a reader should know before training begins, though it may be meant."""
    networks = method.networks()
    config = study.experiment.config
    sides = [Findings(member, sides=study.cache.prepared(member).grid.shape) for member in study.cohort.of("train")]
    doubts = patch_warnings(sides, config.patch.size, common_multiple(networks.values()), config.generator.name)
    factories = [study.experiment.slots["losses", name].found.component.load() for name in config.losses]
    if config.discriminator is not None and not any(getattr(factory, "adversarial", False) for factory in factories):
        doubts.append("discriminator: no loss trains it, so that it has no effect; set discriminator: null to be clear")
    if config.train.memory == "low":
        silent = {type(network).__name__: None for network in networks.values() if not names_blocks(network)}
        doubts += [f"train.memory: low does nothing for {name}, which names no memory_blocks" for name in silent]
    return doubts


def _standing(method: Method, folder: RunFolder, ranks: Ranks, precision: Stateful, metric: str | None) -> Standing:
    found = ranks.first(lambda: checkpoint.newest(folder.checkpoints))
    if found is None:
        raise ConfigError(f"{folder.path}: no checkpoint to resume from; begin anew with --overwrite")
    for reason in found.skipped:
        _log.warning("checkpoint passed over: %s", reason)
    _log.info("resuming from step %d", found.step)
    standing = resume(method, found, precision)
    if ranks.leads:
        restore_marks(folder.checkpoints, found, standing, metric)
    standing.best_score, standing.best_step = ranks.first(lambda: (standing.best_score, standing.best_step))
    return standing


def fabric_batches(study: Study, method: Method, fabric: Fabric, first_step: int) -> Generator[Batch]:
    """Batches on the device, one for each step from `first_step` on.

    A side of a patch that the networks cannot take is rounded up to what they can.
    """
    config = study.experiment.config
    if config.train.workers:
        channels = len(config.source) + len(config.target) + 1
        refuse_small_shared_memory(
            batch_bytes=4 * channels * prod(config.patch.size) * config.train.batch * config.train.accumulate,
            workers=config.train.workers,
        )
    loader = training_loader(
        study.cache,
        study.cohort.of("train"),
        patch_size=padded_sides(config.patch.size, common_multiple(method.networks().values())),
        per_volume=config.patch.per_volume,
        foreground=config.patch.foreground,
        seed=config.seed,
        batch=config.train.batch * config.train.accumulate,
        steps=config.train.steps,
        first_step=first_step,
        rank=fabric.global_rank,
        ranks=fabric.world_size,
        workers=config.train.workers,
        augmentations=[study.experiment.build("augment", name) for name in study.experiment.under("augment")],
        pairing=method.pairing,
    )
    for batch in loader:
        yield batch.to(fabric.device, non_blocking=True)


def _plan(study: Study, validator: Validator, fabric: Fabric, folder: RunFolder) -> Plan:
    settings = study.experiment.config.train
    return Plan(
        seed=study.experiment.config.seed,
        rank=fabric.global_rank,
        steps=settings.steps,
        validate_every=settings.validate_every,
        checkpoint_every=settings.checkpoint_every,
        keep=settings.keep,
        best=validator.best,
        best_is_higher=validator.best_is_higher,
        checkpoints=folder.checkpoints,
        config_hash=config_hash(study.experiment),
        facts=facts_of(study.experiment, fabric.world_size),
        how_to_resume=f"medtrans run {folder.config} --resume",
        extra=study.translating_facts(),
    )
