"""Learning rates over training: pure functions of the step, so that resuming needs no state of theirs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

__all__ = ["SCHEDULES", "Constant", "Cosine", "Linear", "MultiStep"]


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
