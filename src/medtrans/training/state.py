"""Where training stands, with its curves, and how that travels in a checkpoint and comes back."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from medtrans.plugins.interfaces import Method
from medtrans.runs import checkpoint
from medtrans.runs.checkpoint import Checkpoint

__all__ = ["History", "Stateful", "TrainingState", "checkpoint_bytes", "restore_marks", "resume"]


_MOST_POINTS = 2000


@dataclass
class History:
    """By name, `[step, value]` pairs over the whole training.

    A curve that has grown too long keeps every other point and from then on takes every other new one, so that its
    points stay evenly spread.
    """

    curves: dict[str, list[list[float]]] = field(default_factory=dict)
    strides: dict[str, int] = field(default_factory=dict)
    seen: dict[str, int] = field(default_factory=dict)

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """A point for each value."""
        for name, value in values.items():
            count, stride = self.seen.get(name, 0), self.strides.get(name, 1)
            self.seen[name] = count + 1
            if count % stride:
                continue
            curve = self.curves.setdefault(name, [])
            curve.append([float(step), float(value)])
            if len(curve) > _MOST_POINTS:
                del curve[1::2]
                self.strides[name] = 2 * stride


_log = logging.getLogger("medtrans")


class Stateful(Protocol):
    """What keeps something that resuming needs."""

    def state_dict(self) -> dict[str, Any]:
        """What it keeps, tensors and plain values."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up what `state_dict` gave."""


@dataclass
class TrainingState:
    """Where training stands, beside what the method keeps.

    Args:
        step: steps done.
        best_score: of the best validation so far.
        best_step: its step.
        history: the curves.
    """

    step: int = 0
    best_score: float | None = None
    best_step: int | None = None
    history: History = field(default_factory=History)

    def state(self, method: Method, precision: Stateful | None) -> dict[str, Any]:
        """All that a checkpoint carries beside networks."""
        return {
            "method": method.state_dict(),
            "precision": {} if precision is None else precision.state_dict(),
            "best_score": self.best_score,
            "best_step": self.best_step,
            "history": asdict(self.history),
        }


def resume(method: Method, found: Checkpoint, precision: Stateful | None = None) -> TrainingState:
    """Put a checkpoint's weights and state back; training goes on as if it had never stopped."""
    weights, state = found.networks(), found.state()
    for name, network in method.networks().items():
        network.load_state_dict(weights[name])
    method.load_state_dict(state["method"])
    if precision is not None and state["precision"]:
        precision.load_state_dict(state["precision"])
    return TrainingState(found.step, state["best_score"], state["best_step"], History(**state["history"]))


def restore_marks(folder: Path, found: Checkpoint, state: TrainingState, metric: str | None) -> None:
    """Let "last" and "best" point where they pointed when `found` was written.

    A process that was killed may not have come to mark what it saved, or may have marked what is damaged now. Where
    the best checkpoint is lost, the next validation chooses anew.
    """
    checkpoint.mark(folder, "last", found.folder)
    if state.best_step is None:
        checkpoint.unmark(folder, "best")
        return
    best = checkpoint.at_step(folder, state.best_step)
    if best is not None:
        checkpoint.mark(folder, "best", best.folder, metric=metric, score=state.best_score)
        return
    _log.warning("the best checkpoint, of step %d, is damaged or gone; validation chooses anew", state.best_step)
    checkpoint.unmark(folder, "best")
    state.best_score = state.best_step = None


def checkpoint_bytes(method: Method) -> int:
    """About how large a checkpoint will be: the weights, and as much again twice for the optimisers of trained ones."""
    networks = method.networks().values()
    kept = [tensor.nbytes for network in networks for tensor in network.state_dict().values()]
    trained = [one.nbytes for network in networks for one in network.parameters() if one.requires_grad]
    return int(sum(kept) + 2 * sum(trained))
