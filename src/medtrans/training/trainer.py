"""The training loop: steps, validation, checkpoints, callbacks, and ending when asked to."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from math import prod
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import torch
from lightning_fabric import Fabric
from torch import nn

from medtrans.config.schema import RunConfig
from medtrans.data.checks.cases import CaseChecks
from medtrans.data.checks.cohort import patch_warnings
from medtrans.data.datamodule import DataModule
from medtrans.data.patches import check_shared_memory, training_loader, worker_faults
from medtrans.distributed.ranks import Ranks
from medtrans.distributed.signals import EndRequest
from medtrans.errors import DataError, TrainingError
from medtrans.plugins.input_size import common_multiple, padded_sides
from medtrans.plugins.interfaces import Callback, Method, RunInfo, Scored
from medtrans.runs import checkpoint
from medtrans.runs.folder import RunFolder
from medtrans.runs.session import config_facts, config_hash
from medtrans.training.activation_checkpointing import has_memory_blocks
from medtrans.training.build import check_compiler, initialise_from
from medtrans.training.costs import StepClock, device_text, keep_training_costs
from medtrans.training.data_stall import DataStall
from medtrans.training.nan_guard import LOG_INTERVAL, NanGuard
from medtrans.training.state import Stateful, TrainingState, checkpoint_bytes, restore_marks, resume
from medtrans.training.unused_weights import refuse_unused_weights
from medtrans.training.watchers import contained
from medtrans.types import Batch
from medtrans.utils.files import check_disk_space
from medtrans.utils.memory import memory_faults
from medtrans.utils.seeds import derived_seed

__all__ = ["Trainer", "Validator", "announce", "fabric_batches", "train_method", "training_remedy"]


Validate: TypeAlias = Callable[[], tuple[Mapping[str, float], Sequence[Scored]]]
"""Gives the mean of each column, and each case's scores and picture, by the weights as they are."""

_log = logging.getLogger("medtrans")


class Validator(Protocol):
    """What scores the validation cases; it is handed in, since training lies below evaluation."""

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


@dataclass(kw_only=True)
class Trainer:
    """The loop from a first step to a last one: update, validate, save, tell the callbacks.

    Before step s each rank seeds torch with a function of (seed, s, rank), so that no random state needs to be kept and
    a resumed run takes the same steps as one left alone. All ranks take each turn together; the leading one writes.

    Args:
        method: networks and their update, already set up.
        seed: of the run.
        steps: updates in all.
        validate_every: steps between validations.
        checkpoint_every: steps between checkpoints.
        keep: checkpoints to leave.
        checkpoints: folder.
        config_hash: of the config.
        validate: scores on whole volumes by the weights as they are; None where there are no validation cases.
        best: the validation score that chooses the best weights; None for none.
        best_is_higher: its direction.
        callbacks: watchers.
        ranks: this process among the others of the run.
        request: whether the run was asked to end; looked at after each step.
        precision: what scales a loss in half precision and travels with the checkpoint.
        extra: what else each checkpoint carries, plain values.
        facts: what each checkpoint's manifest says of the run, plain values.
        how_to_resume: the command, for the message of a run that was asked to end.
    """

    method: Method
    seed: int
    steps: int
    validate_every: int
    checkpoint_every: int
    keep: int
    checkpoints: Path
    config_hash: str
    validate: Validate | None = None
    best: str | None = None
    best_is_higher: bool = True
    callbacks: Sequence[Callback] = ()
    ranks: Ranks = field(default_factory=Ranks)
    request: EndRequest = field(default_factory=EndRequest)
    precision: Stateful | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    how_to_resume: str = "--resume"

    def fit(self, batches: Iterable[Batch], state: TrainingState, run: RunInfo) -> None:
        """Train from `state.step` to the last step.

        Args:
            batches: one for each step that is left.
            state: where to begin; it is moved on.
            run: what the callbacks are told first.

        Raises:
            TrainingError: an input, a loss, a gradient norm or a weight is not finite, and no checkpoint holds it; or
                there were fewer batches than steps.
            DataError: a translated volume is not finite.
            RunInterruptedError: the run was asked to end; a checkpoint of the last step is there.
        """
        self._state, self._guard, stall = state, NanGuard(self.method.networks()), DataStall()
        self._saved: int | None = state.step if state.step > 0 else None
        with _started(self.callbacks, run, state):
            if self._saved is None:
                # There is always something to resume from, and a fault in saving shows before time was spent.
                self._write(improved=False)
            # Torch says at the second step that weights are unused, and not which.
            watched = refuse_unused_weights(self.method.networks()) if self.ranks.count > 1 else None
            for batch in stall.timed(batches):
                torch.manual_seed(derived_seed(self.seed, "step", state.step, self.ranks.rank))
                with watched or nullcontext():
                    values = self.method.training_step(batch, state.step)
                watched = None
                stall.stepped()
                state.step += 1
                self._guard.update(state.step, values, batch)
                for callback in self.callbacks:
                    callback.on_step(state.step, values)
                if state.step % LOG_INTERVAL == 0 or state.step == self.steps:
                    state.history.add(state.step, self._guard.newest())
                self._validate_and_save()
                # Ranks ask each other: one that was told to end would leave the others waiting in a collective.
                if self.ranks.any(self.request.made):
                    self._save()
                    where = f"step {state.step} of {self.steps} is saved"
                    raise self.request.error(where=where, how_to_resume=self.how_to_resume)
            if state.step < self.steps:
                raise TrainingError(f"step {state.step}: the batches ended, {self.steps} steps were planned")

    def _validate_and_save(self) -> None:
        """Validate and save where it is time to; a better score is saved at once, whatever the interval."""
        step = self._state.step
        last, improved = step == self.steps, False
        if self.validate is not None and (last or step % self.validate_every == 0):
            self._guard.check(step)
            improved = self._validated(self.validate)
        if last or improved or step % self.checkpoint_every == 0:
            self._save(improved=improved)

    def _save(self, *, improved: bool = False) -> None:
        """Save this step, unless it is saved."""
        if self._saved == self._state.step:
            return
        self._guard.check(self._state.step)
        folder = self._write(improved=improved)
        for callback in self.callbacks:
            callback.on_checkpoint(self._state.step, folder)

    def _validated(self, validate: Validate) -> bool:
        """Validate; True where the score that chooses the best weights has improved."""
        state = self._state
        try:
            # Running statistics differ between ranks, each of which has seen batches of its own.
            self.ranks.share_buffers(self.method.networks())
            with memory_faults(f"step {state.step}: validation", "lower inference.window or inference.batch"):
                means, cases = validate()
        except DataError as error:
            raise type(error)(*(f"step {state.step}: validation: {fault}" for fault in error.faults)) from error
        state.history.add(state.step, {f"validation {name}": value for name, value in means.items()})
        for callback in self.callbacks:
            callback.on_validation(state.step, means, cases)
        if self.best is None or not math.isfinite(means[self.best]):
            if self.best is not None and math.isnan(means[self.best]):
                _log.warning("step %d: %s, which is to choose the best weights, is undefined", state.step, self.best)
            return False
        score, best = means[self.best], state.best_score
        improved = best is None or (score > best if self.best_is_higher else score < best)
        if improved:
            state.best_score, state.best_step = score, state.step
        return improved

    def _write(self, *, improved: bool) -> Path:
        step = self._state.step
        folder = self.checkpoints / f"step_{step:08d}"
        # A rank that found numbers that are not finite does not come here, so that none of them are written.
        self.ranks.wait()
        if self.ranks.leads:
            folder = checkpoint.save(
                self.checkpoints,
                step,
                {name: network.state_dict() for name, network in self.method.networks().items()},
                {**self._state.state(self.method, self.precision), **self.extra},
                config_hash=self.config_hash,
                keep=self.keep,
                facts=self.facts,
            )
            checkpoint.mark(self.checkpoints, "last", folder)
            if improved:
                checkpoint.mark(self.checkpoints, "best", folder, metric=self.best, score=self._state.best_score)
        self.ranks.wait()
        self._saved = step
        return folder


@contextmanager
def _started(callbacks: Sequence[Callback], run: RunInfo, state: TrainingState) -> Iterator[None]:
    """Every callback that was told of the start is told of the end, whatever happens, to the others too."""

    def ended(callback: Callback, _kind: object, error: BaseException | None, _trace: object) -> None:
        callback.on_end(state.step, error)

    with ExitStack() as ends:
        for callback in callbacks:
            callback.on_start(run)
            ends.push(partial(ended, callback))
        yield


def train_method(
    data: DataModule,
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
        data: what is trained on.
        method: networks and their update.
        validator: scores the validation cases.
        fabric: the device, launched.
        folder: of the run.
        continued: whether the newest checkpoint is gone on from, where there is one.
        ranks: of the run.
        request: whether the run was asked to end.

    Raises:
        DataError: no checkpoint is whole.
        SetupError: the disk is too full, or so is the shared memory that workers hand patches over in.
        TrainingError: training had to stop.
        RunInterruptedError: the run was asked to end.
    """
    config, ranks = data.experiment.config, ranks or Ranks()
    newest = ranks.first(lambda: checkpoint.newest(folder.checkpoints)) if continued else None
    if continued and newest is None:
        _log.info("no checkpoint yet: training begins at the first step")
    if newest is None and config.train.initialise_from is not None:
        initialise_from(method, config.train.initialise_from)
    for warning in _warnings(data, method) if ranks.leads else ():
        _log.warning("%s", warning)
    if config.train.compile is not None:
        check_compiler(fabric.device)
    method.setup(fabric)
    if ranks.leads:
        check_disk_space(folder.checkpoints, 2 * checkpoint_bytes(method), what="two checkpoints need about")
    precision = fabric.strategy.precision
    state = TrainingState() if newest is None else _resumed(method, newest, folder, ranks, precision, validator.best)
    callbacks: list[Callback] = [
        contained(name, data.experiment.build("callbacks", name))
        for name in data.experiment.under("callbacks")
        if ranks.leads
    ]
    clock = StepClock()
    callbacks += [*validator.callbacks, clock] if ranks.leads else validator.callbacks
    trainer = Trainer(
        method=method,
        seed=config.seed,
        steps=config.train.steps,
        validate_every=config.train.validate_every,
        checkpoint_every=config.train.checkpoint_every,
        keep=config.train.keep,
        checkpoints=folder.checkpoints,
        config_hash=config_hash(data.experiment),
        validate=validator if validator.members else None,
        best=validator.best,
        best_is_higher=validator.best_is_higher,
        callbacks=callbacks,
        ranks=ranks,
        request=request or EndRequest(),
        precision=precision,
        extra=data.translating_facts(),
        facts={**config_facts(data.experiment, fabric.world_size), "cases": data.identities()},
        how_to_resume=f"medtrans run {folder.config} --resume",
    )
    run = RunInfo(folder.path, data.experiment.saved(), state.step, config.train.steps)
    with (
        memory_faults("training", training_remedy(config)),
        worker_faults(),
        closing(fabric_batches(data, method, fabric, state.step)) as batches,
    ):
        trainer.fit(batches, state, run)
    if ranks.leads:
        keep_training_costs(folder.costs, method.networks(), clock, ranks.count)


def announce(data: DataModule, fabric: Fabric, ranks: Ranks, folder: RunFolder) -> None:
    """Say at once what will be done, on what, and where it is written down."""
    config, count = data.experiment.config, ranks.count
    train, validation, test = (len(data.cohort.of(split)) for split in ("train", "validation", "test"))
    patch, batch = "×".join(map(str, config.patch.size)), config.train.batch * config.train.accumulate
    _log.info(
        "%s to %s on %s: %d training, %d validation and %d test cases; %d steps of %d patches of %s voxels; log: %s",
        "+".join(config.source),
        "+".join(config.target),
        device_text(fabric.device) + (f", {count} ranks" if count > 1 else ""),
        train,
        validation,
        test,
        config.train.steps,
        batch * count,
        patch,
        folder.log,
    )


def training_remedy(config: RunConfig) -> str:
    """What to lower where memory runs out in training, with the numbers of the config."""
    patch, batch = "x".join(map(str, config.patch.size)), config.train.batch
    said = [f"lower patch.size (now {patch})"]
    if batch > 1:
        total = batch * config.train.accumulate
        said.append(f"set train.batch=1 and train.accumulate={total} (now {batch} and {config.train.accumulate})")
    if config.train.memory == "normal":
        said.append("set train.memory=low")
    return ", or ".join(said)


def _warnings(data: DataModule, method: Method) -> list[str]:
    """What a reader should know before training begins, though it may be meant."""
    networks = method.networks()
    config = data.experiment.config
    sides = [CaseChecks(member, sides=data.cache.prepared(member).grid.shape) for member in data.cohort.of("train")]
    warnings = patch_warnings(sides, config.patch.size, common_multiple(networks.values()), config.generator.name)
    factories = [data.experiment.slots["losses", name].found.component.load() for name in config.losses]
    if config.discriminator is not None and not any(getattr(factory, "adversarial", False) for factory in factories):
        warnings.append("discriminator: no loss trains it, so it has no effect; set discriminator: null to be clear")
    for name, network in networks.items() if config.train.accumulate > 1 else ():
        if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules()):  # noqa: SLF001 -- the base of all dimensions
            warnings.append(
                f"train.accumulate: {name} has batch normalisation, which sees one batch of {config.train.batch} at a "
                "time, not all that an update is made of; instance normalisation sees each case by itself"
            )
    if config.train.memory == "low":
        silent = {type(network).__name__: None for network in networks.values() if not has_memory_blocks(network)}
        warnings += [f"train.memory: low does nothing for {name}, which names no memory_blocks" for name in silent]
    return warnings


def _resumed(
    method: Method,
    found: checkpoint.Checkpoint,
    folder: RunFolder,
    ranks: Ranks,
    precision: Stateful,
    metric: str | None,
) -> TrainingState:
    for reason in found.skipped:
        _log.warning("checkpoint passed over: %s", reason)
    _log.info("resuming from step %d", found.step)
    state = resume(method, found, precision)
    if ranks.leads:
        restore_marks(folder.checkpoints, found, state, metric)
    state.best_score, state.best_step = ranks.first(lambda: (state.best_score, state.best_step))
    return state


def fabric_batches(data: DataModule, method: Method, fabric: Fabric, first_step: int) -> Generator[Batch]:
    """Batches on the device, one for each step from `first_step` on.

    A side of a patch that the networks cannot take is rounded up to what they can.
    """
    config = data.experiment.config
    if config.train.workers:
        channels = len(config.source) + len(config.target) + 1
        check_shared_memory(
            batch_bytes=4 * channels * prod(config.patch.size) * config.train.batch * config.train.accumulate,
            workers=config.train.workers,
        )
    loader = training_loader(
        data.cache,
        data.cohort.of("train"),
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
        augmentations=[data.experiment.build("augment", name) for name in data.experiment.under("augment")],
        pairing=method.pairing,
    )
    for batch in loader:
        yield batch.to(fabric.device, non_blocking=True)
