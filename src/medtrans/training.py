"""Owns the training loop: steps, the watch for numbers that are not finite, validation, checkpoints, callbacks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medtrans import checkpoint
from medtrans.checkpoint import Checkpoint
from medtrans.components import Callback, Method, RunInfo, Scored
from medtrans.errors import TrainingError
from medtrans.history import History
from medtrans.seeds import derived_seed
from medtrans.types import Batch

__all__ = ["Plan", "Standing", "resume", "train"]

Validate = Callable[[], tuple[Mapping[str, float], Sequence[Scored]]]

LOG_INTERVAL = 10
"""Steps between looks at the scalars, each of which waits for the device."""


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


@dataclass
class Standing:
    """Where training stands, beside what the method keeps."""

    step: int = 0
    best_score: float | None = None
    history: History = field(default_factory=History)


def train(
    method: Method,
    batches: Iterable[Batch],
    plan: Plan,
    *,
    standing: Standing,
    validate: Validate | None,
    callbacks: Sequence[Callback],
    run: RunInfo,
) -> None:
    """Train from `standing.step` to `plan.steps`.

    Before step s each rank seeds torch with a function of (seed, s, rank), so that no random state needs to be kept.

    Args:
        method: networks and their update, already set up.
        batches: one for each step that is left.
        plan: the loop's numbers.
        standing: where to begin; it is moved on.
        validate: scores on whole volumes by the weights as they are; None where there are no validation cases.
        callbacks: watchers.
        run: what they are told first.

    Raises:
        TrainingError: a loss, a gradient norm or a weight is not finite, and no checkpoint holds it; or there were
            fewer batches than steps.
    """
    watch = _Watch()
    with _watched(callbacks, run, standing):
        for batch in batches:
            torch.manual_seed(derived_seed(plan.seed, "step", standing.step, plan.rank))
            values = method.training_step(batch, standing.step)
            standing.step += 1
            watch.see(standing.step, values, batch)
            for callback in callbacks:
                callback.on_step(standing.step, values)
            if standing.step % LOG_INTERVAL == 0 or standing.step == plan.steps:
                standing.history.add(standing.step, watch.means())
            _rest(method, plan, standing, watch, validate, callbacks)
        if standing.step < plan.steps:
            raise TrainingError(f"step {standing.step}: the batches ended, {plan.steps} steps were planned")


def resume(method: Method, found: Checkpoint) -> Standing:
    """Put a checkpoint's weights and state back; training goes on as if it had never stopped."""
    weights, state = found.networks(), found.state()
    for name, network in method.networks().items():
        network.load_state_dict(weights[name])
    method.load_state_dict(state["method"])
    return Standing(found.step, state["best_score"], History(**state["history"]))


def _rest(
    method: Method,
    plan: Plan,
    standing: Standing,
    watch: _Watch,
    validate: Validate | None,
    callbacks: Sequence[Callback],
) -> None:
    """What is due between two steps."""
    last = standing.step == plan.steps
    improved = False
    if validate is not None and (last or standing.step % plan.validate_every == 0):
        watch.check()
        improved = _validate(plan, standing, validate, callbacks)
    if last or improved or standing.step % plan.checkpoint_every == 0:
        watch.check()
        _save(method, plan, standing, callbacks, improved=improved)


def _validate(plan: Plan, standing: Standing, validate: Validate, callbacks: Sequence[Callback]) -> bool:
    means, cases = validate()
    standing.history.add(standing.step, {f"validation {name}": value for name, value in means.items()})
    for callback in callbacks:
        callback.on_validation(standing.step, means, cases)
    if plan.best is None or not math.isfinite(means[plan.best]):
        return False
    score, best = means[plan.best], standing.best_score
    improved = best is None or (score > best if plan.best_is_higher else score < best)
    if improved:
        standing.best_score = score
    return improved


def _save(method: Method, plan: Plan, standing: Standing, callbacks: Sequence[Callback], *, improved: bool) -> None:
    networks = {name: network.state_dict() for name, network in method.networks().items()}
    _refuse_broken_weights(networks, standing.step)
    state = {
        "method": method.state_dict(),
        "best_score": standing.best_score,
        "history": asdict(standing.history),
        **plan.extra,
    }
    folder = checkpoint.save(
        plan.checkpoints, standing.step, networks, state, config_hash=plan.config_hash, keep=plan.keep
    )
    checkpoint.mark(plan.checkpoints, "last", folder)
    if improved:
        checkpoint.mark(plan.checkpoints, "best", folder, metric=plan.best, score=standing.best_score)
    for callback in callbacks:
        callback.on_checkpoint(standing.step, folder)


def _refuse_broken_weights(networks: Mapping[str, Mapping[str, Tensor]], step: int) -> None:
    broken = [
        f"{network}.{name}"
        for network, weights in networks.items()
        for name, tensor in weights.items()
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all())
    ]
    if broken:
        raise TrainingError(
            f"step {step}: {len(broken)} weight tensors are not finite (first: {broken[0]}); the last checkpoint is "
            "as it was. Lower the learning rate or set method.options.clip_norm, and begin anew"
        )


class _Watch:
    """Looks at the scalars without waiting for the device at each step."""

    def __init__(self) -> None:
        self._seen: list[tuple[int, Mapping[str, Tensor], tuple[int, ...]]] = []

    def see(self, step: int, values: Mapping[str, Tensor], batch: Batch) -> None:
        """Remember a step's scalars; every so often look at them."""
        self._seen.append((step, values, batch.cases))
        if step % LOG_INTERVAL == 0:
            self.check()

    def means(self) -> dict[str, float]:
        """The newest scalars as plain numbers."""
        return {name: float(value) for name, value in self._seen[-1][1].items()} if self._seen else {}

    def check(self) -> None:
        """Raise if a scalar since the last look is not finite."""
        scalars = [(step, name, cases) for step, values, cases in self._seen for name in values]
        finite = _all_finite([value for _, values, _ in self._seen for value in values.values()])
        for (step, name, cases), fine in zip(scalars, finite, strict=True):
            if not fine:
                numbers = ", ".join(f"case_{case:04d}" for case in dict.fromkeys(cases))
                raise TrainingError(
                    f"step {step}: {name} is not finite, on patches of {numbers}; the last checkpoint is as it was. "
                    "Lower the learning rate, set method.options.clip_norm, or look at these cases"
                )
        del self._seen[:-1]


def _all_finite(values: Sequence[Tensor]) -> list[bool]:
    """Which scalars are finite, waiting for each device once."""
    places: dict[torch.device, list[int]] = {}
    for index, value in enumerate(values):
        places.setdefault(value.device, []).append(index)
    finite = [True] * len(values)
    for indices in places.values():
        flags = torch.isfinite(torch.stack([values[index].detach().double() for index in indices])).tolist()
        for index, flag in zip(indices, flags, strict=True):
            finite[index] = bool(flag)
    return finite


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
