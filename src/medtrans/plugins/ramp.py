"""Numbers that change with the training step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Ramp", "value_at"]


@dataclass(frozen=True)
class Ramp:
    """A number that goes from `start` to `end` in a straight line.

    Args:
        start: value up to step `delay`.
        end: value from step `delay + steps` on.
        steps: length of the ramp, in steps.
        delay: steps before the ramp begins.
        every: the value changes only at multiples of this many steps; `epoch` means `train.epoch_steps`.
    """

    start: float
    end: float
    steps: int
    delay: int = 0
    every: int | Literal["epoch"] = 1

    def at(self, step: int, epoch_steps: int = 1) -> float:
        """The value at `step`; the first step is 0."""
        every = epoch_steps if self.every == "epoch" else self.every
        elapsed = step // every * every - self.delay
        share = min(max(elapsed / self.steps, 0.0), 1.0)
        return self.start + (self.end - self.start) * share


def value_at(number: float | Ramp, step: int, epoch_steps: int = 1) -> float:
    """The value of a constant or a ramp at `step`."""
    return number.at(step, epoch_steps) if isinstance(number, Ramp) else number
