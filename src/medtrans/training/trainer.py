"""The training loop: steps, validation, checkpoints, callbacks, and ending when asked to."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import torch
from lightning_fabric import Fabric

from medtrans.data.checks.cases import CaseChecks
from medtrans.data.checks.cohort import patch_warnings
from medtrans.data.datamodule import DataModule
from medtrans.data.patches import check_shared_memory, training_loader, worker_faults
from medtrans.distributed.ranks import Ranks
from medtrans.distributed.signals import EndRequest
from medtrans.errors import ConfigError, DataError, TrainingError
from medtrans.plugins.input_size import common_multiple, padded_sides
from medtrans.plugins.interfaces import Callback, Method, RunInfo, Scored
from medtrans.runs import checkpoint
from medtrans.runs.folder import RunFolder
from medtrans.runs.session import config_facts, config_hash
from medtrans.training.activation_checkpointing import names_blocks
from medtrans.training.compile import check_compiler
from medtrans.training.costs import StepClock, keep_training_costs
from medtrans.training.data_stall import DataStall
from medtrans.training.initialise import initialise
from medtrans.training.nan_guard import LOG_INTERVAL, NanGuard
from medtrans.training.state import Stateful, TrainingState, checkpoint_bytes, restore_marks, resume
from medtrans.types import Batch
from medtrans.utils.files import check_disk_space
from medtrans.utils.seeds import derived_seed

__all__ = ["Plan", "train", "train_method"]


Validate: TypeAlias = Callable[[], tuple[Mapping[str, float], Sequence[Scored]]]


@dataclass(frozen=True)
class Plan:
    """How long, how often and where to.

    Args:
        seed: of the run.
        rank: of this process.
        steps: updates in all.
        validate_every: steps between validations.
        checkpoint_every: steps between checkpoints.
        keep: checkpoints to leave.
        best: the validation score that chooses the best weights; None for none.
        best_is_higher: its direction.
        checkpoints: folder.
        config_hash: of the config.
        extra: what else each checkpoint carries, plain values.
        facts: what each checkpoint's manifest says of the run, plain values.
        how_to_resume: the command, for the message of a run that was asked to end.
    """

    seed: int
    rank: int
    steps: int
    validate_every: int
    checkpoint_every: int
    keep: int
    best: str | None
    best_is_higher: bool
    checkpoints: Path
    config_hash: str
    extra: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    how_to_resume: str = "--resume"


def train(
    method: Method,
    batches: Iterable[Batch],
    plan: Plan,
    *,
    standing: TrainingState,
    validate: Validate | None,
    callbacks: Sequence[Callback],
    run: RunInfo,
    ranks: Ranks | None = None,
    request: EndRequest | None = None,
    precision: Stateful | None = None,
) -> None:
    """Train from `standing.step` to `plan.steps`.

    Before step s each rank seeds torch with a function of (seed, s, rank), so that no random state needs to be kept.
    All ranks take each turn together; the leading one writes.

    Args:
        method: networks and their update, already set up.
        batches: one for each step that is left.
        plan: the loop's numbers.
        standing: where to begin; it is moved on.
        validate: scores on whole volumes by the weights as they are; None where there are no validation cases.
        callbacks: watchers.
        run: what they are told first.
        ranks: this process among the others of the run.
        request: whether the run was asked to end; looked at after each step.
        precision: what scales a loss in half precision and travels with the checkpoint.

    Raises:
        TrainingError: an input, a loss, a gradient norm or a weight is not finite, and no checkpoint holds it; or there
            were fewer batches than steps.
        DataError: a translated volume is not finite.
        RunInterruptedError: the run was asked to end; a checkpoint of the last step is there.
    """
    loop = _Loop(method, plan, standing, callbacks, ranks or Ranks(), precision)
    request, wait = request or EndRequest(), DataStall()
    with _watched(callbacks, run, standing):
        loop.begin()
        for batch in wait.watched(batches):
            torch.manual_seed(derived_seed(plan.seed, "step", standing.step, plan.rank))
            values = method.training_step(batch, standing.step)
            wait.stepped()
            standing.step += 1
            loop.watch.see(standing.step, values, batch)
            for callback in callbacks:
                callback.on_step(standing.step, values)
            if standing.step % LOG_INTERVAL == 0 or standing.step == plan.steps:
                standing.history.add(standing.step, loop.watch.newest())
            loop.rest(validate)
            if loop.ranks.any(request.made):
                loop.save()
                where = f"step {standing.step} of {plan.steps} is saved"
                raise request.error(where=where, how_to_resume=plan.how_to_resume)
        if standing.step < plan.steps:
            raise TrainingError(f"step {standing.step}: the batches ended, {plan.steps} steps were planned")


class _Loop:
    """What is due between two steps."""

    def __init__(
        self,
        method: Method,
        plan: Plan,
        standing: TrainingState,
        callbacks: Sequence[Callback],
        ranks: Ranks,
        precision: Stateful | None,
    ) -> None:
        self.method, self.plan, self.standing, self.callbacks = method, plan, standing, callbacks
        self.ranks, self.precision = ranks, precision
        self.watch = NanGuard(method.networks())
        self._saved: int | None = standing.step if standing.step > 0 else None

    def begin(self) -> None:
        """Save the first weights, so that there is always something to resume, and a fault in saving shows at once."""
        if self._saved is None:
            self._write(improved=False)

    def rest(self, validate: Validate | None) -> None:
        """Validate and save where it is time to."""
        plan, step = self.plan, self.standing.step
        last, improved = step == plan.steps, False
        if validate is not None and (last or step % plan.validate_every == 0):
            self.watch.check(step)
            improved = self._validate(validate)
        if last or improved or step % plan.checkpoint_every == 0:
            self.save(improved=improved)

    def save(self, *, improved: bool = False) -> None:
        """Save this step, unless it is saved."""
        if self._saved == self.standing.step:
            return
        self.watch.check(self.standing.step)
        folder = self._write(improved=improved)
        for callback in self.callbacks:
            callback.on_checkpoint(self.standing.step, folder)

    def _validate(self, validate: Validate) -> bool:
        plan, standing = self.plan, self.standing
        try:
            # Running statistics differ between ranks, each of which has seen batches of its own.
            self.ranks.share_buffers(self.method.networks())
            means, cases = validate()
        except DataError as error:
            raise type(error)(*(f"step {standing.step}: validation: {fault}" for fault in error.faults)) from error
        standing.history.add(standing.step, {f"validation {name}": value for name, value in means.items()})
        for callback in self.callbacks:
            callback.on_validation(standing.step, means, cases)
        if plan.best is None or not math.isfinite(means[plan.best]):
            return False
        score, best = means[plan.best], standing.best_score
        improved = best is None or (score > best if plan.best_is_higher else score < best)
        if improved:
            standing.best_score, standing.best_step = score, standing.step
        return improved

    def _write(self, *, improved: bool) -> Path:
        plan, step = self.plan, self.standing.step
        folder = plan.checkpoints / f"step_{step:08d}"
        # A rank that found numbers that are not finite does not come here, so that none of them are written.
        self.ranks.wait()
        if self.ranks.leads:
            folder = checkpoint.save(
                plan.checkpoints,
                step,
                {name: network.state_dict() for name, network in self.method.networks().items()},
                {**self.standing.state(self.method, self.precision), **plan.extra},
                config_hash=plan.config_hash,
                keep=plan.keep,
                facts=plan.facts,
            )
            checkpoint.mark(plan.checkpoints, "last", folder)
            if improved:
                checkpoint.mark(plan.checkpoints, "best", folder, metric=plan.best, score=self.standing.best_score)
        self.ranks.wait()
        self._saved = step
        return folder


@contextmanager
def _watched(callbacks: Sequence[Callback], run: RunInfo, standing: TrainingState) -> Iterator[None]:
    """Every callback that heard of the start hears of the end, whatever happens, to the others too."""
    with ExitStack() as ends:
        for callback in callbacks:
            ends.enter_context(_hears(callback, run, standing))
        yield


@contextmanager
def _hears(callback: Callback, run: RunInfo, standing: TrainingState) -> Iterator[None]:
    callback.on_start(run)
    error: BaseException | None = None
    try:
        yield
    except BaseException as raised:
        error = raised
        raise
    finally:
        callback.on_end(standing.step, error)


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
    study: DataModule,
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
        check_compiler(fabric.device)
    method.setup(fabric)
    if ranks.leads:
        check_disk_space(folder.checkpoints, 2 * checkpoint_bytes(method), what="two checkpoints need about")
    plan, precision = _plan(study, validator, fabric, folder), fabric.strategy.precision
    standing = _standing(method, folder, ranks, precision, plan.best) if continued else TrainingState()
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


def _doubts(study: DataModule, method: Method) -> list[str]:
    """What a reader should know before training begins, though it may be meant."""
    networks = method.networks()
    config = study.experiment.config
    sides = [CaseChecks(member, sides=study.cache.prepared(member).grid.shape) for member in study.cohort.of("train")]
    doubts = patch_warnings(sides, config.patch.size, common_multiple(networks.values()), config.generator.name)
    factories = [study.experiment.slots["losses", name].found.component.load() for name in config.losses]
    if config.discriminator is not None and not any(getattr(factory, "adversarial", False) for factory in factories):
        doubts.append("discriminator: no loss trains it, so that it has no effect; set discriminator: null to be clear")
    if config.train.memory == "low":
        silent = {type(network).__name__: None for network in networks.values() if not names_blocks(network)}
        doubts += [f"train.memory: low does nothing for {name}, which names no memory_blocks" for name in silent]
    return doubts


def _standing(
    method: Method, folder: RunFolder, ranks: Ranks, precision: Stateful, metric: str | None
) -> TrainingState:
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


def fabric_batches(study: DataModule, method: Method, fabric: Fabric, first_step: int) -> Generator[Batch]:
    """Batches on the device, one for each step from `first_step` on.

    A side of a patch that the networks cannot take is rounded up to what they can.
    """
    config = study.experiment.config
    if config.train.workers:
        channels = len(config.source) + len(config.target) + 1
        check_shared_memory(
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


def _plan(study: DataModule, validator: Validator, fabric: Fabric, folder: RunFolder) -> Plan:
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
        facts=config_facts(study.experiment, fabric.world_size),
        how_to_resume=f"medtrans run {folder.config} --resume",
        extra=study.translating_facts(),
    )
