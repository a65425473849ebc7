"""Optimisers and learning-rate schedules that a config may name, each with its options.

torch is imported only when an optimiser is made. Schedules are pure functions of the step, so that resuming needs no
state of theirs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

if TYPE_CHECKING:
    from torch.nn import Parameter
    from torch.optim import Optimizer

Rate = Annotated[float, Field(gt=0)]
Decay = Annotated[float, Field(ge=0)]
Momentum = Annotated[float, Field(ge=0, lt=1)]


@dataclass(frozen=True)
class _Optimizer:
    """The optimiser of the same name in torch, with the fields as its options."""

    def make(self, params: Iterable[Parameter], *, fused: bool = True) -> Optimizer:
        """The optimiser over `params`; `fused` updates them in one pass rather than operation by operation."""
        from torch import optim

        optimizer: Optimizer = getattr(optim, type(self).__name__)(params, **asdict(self), fused=fused)
        return optimizer


@dataclass(frozen=True)
class Adam(_Optimizer):
    """Adam (Kingma and Ba 2015).

    Args:
        lr: learning rate before the schedule's factor.
        betas: decay of the averages of gradient and squared gradient.
        eps: added to the denominator.
        weight_decay: L2 penalty, added to the gradient.
    """

    lr: Rate = 1e-4
    betas: tuple[Momentum, Momentum] = (0.9, 0.999)
    eps: Rate = 1e-8
    weight_decay: Decay = 0.0


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019).

    Args:
        weight_decay: share of a weight taken off at each step, times the learning rate.
    """

    weight_decay: Decay = 0.01


@dataclass(frozen=True)
class SGD(_Optimizer):
    """Stochastic gradient descent with momentum.

    Args:
        lr: learning rate before the schedule's factor.
        momentum: share of the last update that is kept.
        nesterov: look ahead by the momentum.
        weight_decay: L2 penalty, added to the gradient.
    """

    lr: Rate = 1e-2
    momentum: Momentum = 0.9
    nesterov: bool = False
    weight_decay: Decay = 0.0


OPTIMIZERS: Mapping[str, type] = {"adam": Adam, "adamw": AdamW, "sgd": SGD}


Every = Annotated[int, Field(ge=1)] | Literal["epoch"]
Factor = Annotated[float, Field(ge=0)]


@dataclass(frozen=True)
class Constant:
    """The optimiser's own rate throughout."""

    def factor(self, step: int, steps: int, epoch_steps: int) -> float:
        """1, always."""
        return 1.0


@dataclass(frozen=True)
class Linear:
    """A straight line from the optimiser's rate to a share of it.

    Args:
        delay: steps at the full rate before the line begins.
        end: share of the rate that the end of the line has, and every step after it.
        every: the rate changes only at multiples of this many steps; `epoch` means `train.epoch_steps`.
        length: steps of the line; null means all that the delay leaves.
    """

    delay: Annotated[int, Field(ge=0)] = 0
    end: Factor = 0.0
    every: Every = 1
    length: Annotated[int, Field(ge=1)] | None = None

    def factor(self, step: int, steps: int, epoch_steps: int) -> float:
        """The share of the rate at `step`, of `steps` in all; the first step is 0."""
        length = max(steps - self.delay, 1) if self.length is None else self.length
        share = (_stair(step, self.every, epoch_steps) - self.delay) / length
        return 1.0 + (self.end - 1.0) * min(max(share, 0.0), 1.0)


@dataclass(frozen=True)
class MultiStep:
    """A drop by a factor at each milestone.

    Args:
        milestones: steps, or epochs where `every` is `epoch`.
        gamma: factor of each drop.
        every: `epoch` counts milestones in epochs of `train.epoch_steps`; 1 in steps.
    """

    milestones: tuple[Annotated[int, Field(ge=1)], ...]
    gamma: Factor = 0.5
    every: Every = 1

    def factor(self, step: int, steps: int, epoch_steps: int) -> float:
        """The share of the rate at `step`; the first step is 0."""
        unit = epoch_steps if self.every == "epoch" else self.every
        return self.gamma ** sum(step // unit >= milestone for milestone in self.milestones)


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from the optimiser's rate to a share of it (Loshchilov and Hutter 2017, without restarts).

    Args:
        end: share of the rate that the last step approaches.
        every: the rate changes only at multiples of this many steps; `epoch` means `train.epoch_steps`.
    """

    end: Factor = 0.0
    every: Every = 1

    def factor(self, step: int, steps: int, epoch_steps: int) -> float:
        """The share of the rate at `step`, of `steps` in all; the first step is 0."""
        share = min(_stair(step, self.every, epoch_steps) / steps, 1.0)
        return self.end + (1.0 - self.end) * 0.5 * (1.0 + math.cos(math.pi * share))


def _stair(step: int, every: Every, epoch_steps: int) -> int:
    length = epoch_steps if every == "epoch" else every
    return step // length * length


SCHEDULES: Mapping[str, type] = {"constant": Constant, "linear": Linear, "multistep": MultiStep, "cosine": Cosine}
