"""The built-in losses, and what they share: a weight for each level, and the precision of the sums."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["full_precision", "weights_of_levels"]


def full_precision(values: Tensor) -> Tensor:
    """The same values in float32, or in float64 where they are: a sum over a million voxels is wrong in 16 bits."""
    return values if values.dtype == torch.float64 else values.float()


def weights_of_levels(level_weights: Sequence[float] | None, levels: int, of: str) -> tuple[float, ...]:
    """A weight for each level, 1 where none were given; `of` is what has so many levels, for the message.

    Raises:
        ValueError: another number of weights than levels.
    """
    if level_weights is None:
        return (1.0,) * levels
    if len(level_weights) != levels:
        raise ValueError(
            f"{of} {levels} levels but level_weights has {len(level_weights)} numbers, {tuple(level_weights)}; "
            "give one for each level"
        )
    return tuple(level_weights)
