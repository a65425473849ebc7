"""Owns the joining of a study, a method and the training loop."""

from __future__ import annotations

import logging
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from math import prod
from statistics import fmean

from lightning_fabric import Fabric

from medtrans import checkpoint
from medtrans.assessment import validation_scores
from medtrans.cohort import Member
from medtrans.comparison import patch_warnings
from medtrans.compilation import refuse_without_compiler
from medtrans.components import Callback, Method, RunInfo, Scored
from medtrans.costs import StepClock, keep_training_costs
from medtrans.errors import ConfigError
from medtrans.gan_watch import GanWatch
from medtrans.inference import Translator
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
from medtrans.watch import LOG_INTERVAL
from medtrans.workers import refuse_small_shared_memory, worker_faults

__all__ = ["train_method"]

_log = logging.getLogger("medtrans")


def train_method(
    study: Study,
    method: Method,
    translator: Translator,
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
        translator: of validation cases.
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
    plan, precision = _plan(study, translator, fabric, folder), fabric.strategy.precision
    standing = _standing(method, folder, ranks, precision, plan.best) if continued else Standing()
    members = study.cohort.of("validation")[: config.train.validation_cases]
    callbacks: list[Callback] = [
        study.experiment.build("callbacks", name) for name in study.experiment.under("callbacks") if ranks.leads
    ]
    run = RunInfo(folder.path, study.experiment.saved(), standing.step, config.train.steps)
    watch = _watch(study, plan, len(ranks.mine(members))) if ranks.leads else None
    callbacks += [] if watch is None else [watch]
    clock = StepClock()
    callbacks += [clock] if ranks.leads else []
    with worker_faults(), closing(fabric_batches(study, method, fabric, standing.step)) as batches:
        train(
            method,
            batches,
            plan,
            standing=standing,
            validate=(lambda: _validated(study, method, translator, members, ranks, watch)) if members else None,
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


def _plan(study: Study, translator: Translator, fabric: Fabric, folder: RunFolder) -> Plan:
    settings = study.experiment.config.train
    columns = study.judge.columns
    chosen = next((name for name in columns if settings.best in (name, name.rpartition("_")[0])), None)
    return Plan(
        seed=study.experiment.config.seed,
        rank=fabric.global_rank,
        steps=settings.steps,
        validate_every=settings.validate_every,
        checkpoint_every=settings.checkpoint_every,
        keep=settings.keep,
        best=chosen,
        best_is_higher=columns[chosen].higher_is_better if chosen else True,
        checkpoints=folder.checkpoints,
        config_hash=config_hash(study.experiment),
        facts=facts_of(study.experiment, fabric.world_size),
        how_to_resume=f"medtrans run {folder.config} --resume",
        extra={
            "target_numbers": {name: dict(numbers) for name, numbers in translator.target_numbers.items()},
            "learned": translator.preprocessing.learned,
            "fingerprint": study.fingerprint(),
            "masked": any("mask" in member.case.images for member in study.cohort.of("train")),
        },
    )


def _watch(study: Study, plan: Plan, cases: int) -> GanWatch:
    columns = study.judge.columns
    judged_by = plan.best or next(iter(columns))
    return GanWatch(LOG_INTERVAL, judged_by, higher_is_better=columns[judged_by].higher_is_better, cases=cases)


def _validated(
    study: Study,
    method: Method,
    translator: Translator,
    members: Sequence[Member],
    ranks: Ranks,
    watch: GanWatch | None,
) -> tuple[Mapping[str, float], list[Scored]]:
    names = study.experiment.config.names
    ranks.share_buffers(method.networks())
    found = ranks.gather(validation_scores(study, translator, ranks.mine(members), watch))
    scored = [Scored(scores.case if names else scores.label, scores.values, picture) for scores, picture in found]
    return {name: fmean(case.scores[name] for case in scored) for name in scored[0].scores}, scored
