"""Owns the pool of past predictions that a discriminator may be shown instead of fresh ones."""

from __future__ import annotations

import torch
from torch import Tensor

from medtrans.types import Pyramid

__all__ = ["PredictionPool"]


class PredictionPool:
    """Shows the discriminator an older prediction half of the time (Shrivastava et al. 2017, as CycleGAN uses it).

    Args:
        size: predictions kept; 0 shows only fresh ones.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.kept: list[tuple[Tensor, ...]] = []

    def exchange(self, predictions: Pyramid, step: int) -> Pyramid:
        """Fresh predictions with some swapped for older ones; the draw depends on the step alone."""
        if self.size == 0:
            return predictions
        draw = torch.Generator().manual_seed(step)
        shown = [self._one(tuple(level[index] for level in predictions), draw) for index in range(len(predictions[0]))]
        return tuple(torch.stack(level) for level in zip(*shown, strict=True))

    def _one(self, fresh: tuple[Tensor, ...], draw: torch.Generator) -> tuple[Tensor, ...]:
        if len(self.kept) < self.size:
            self.kept.append(tuple(level.clone() for level in fresh))
            return fresh
        if torch.rand((), generator=draw) < 0.5:
            return fresh
        index = int(torch.randint(self.size, (), generator=draw))
        older, self.kept[index] = self.kept[index], tuple(level.clone() for level in fresh)
        return older
