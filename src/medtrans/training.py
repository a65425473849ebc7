"""Owns the training loop: steps, validation, checkpoints, callbacks, and ending when asked to."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import torch

from medtrans import checkpoint
from medtrans.components import Callback, Method, RunInfo, Scored
from medtrans.data_wait import DataWait
from medtrans.errors import DataError, TrainingError
from medtrans.ranks import Ranks
from medtrans.seeds import derived_seed
from medtrans.signals import EndRequest
from medtrans.standing import Standing, Stateful, resume
from medtrans.types import Batch
from medtrans.watch import LOG_INTERVAL, Watch

__all__ = ["Plan", "Standing", "resume", "train"]

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
    standing: Standing,
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
    request, wait = request or EndRequest(), DataWait()
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
        standing: Standing,
        callbacks: Sequence[Callback],
        ranks: Ranks,
        precision: Stateful | None,
    ) -> None:
        self.method, self.plan, self.standing, self.callbacks = method, plan, standing, callbacks
        self.ranks, self.precision = ranks, precision
        self.watch = Watch(method.networks())
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
def _watched(callbacks: Sequence[Callback], run: RunInfo, standing: Standing) -> Iterator[None]:
    """Every callback that heard of the start hears of the end, whatever happens, to the others too."""
    with ExitStack() as ends:
        for callback in callbacks:
            ends.enter_context(_hears(callback, run, standing))
        yield


@contextmanager
def _hears(callback: Callback, run: RunInfo, standing: Standing) -> Iterator[None]:
    callback.on_start(run)
    error: BaseException | None = None
    try:
        yield
    except BaseException as raised:
        error = raised
        raise
    finally:
        callback.on_end(standing.step, error)
