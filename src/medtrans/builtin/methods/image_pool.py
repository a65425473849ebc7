"""The pool of past predictions that a discriminator may be shown instead of fresh ones."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from medtrans.types import Pyramid, whole_batch

__all__ = ["ImagePool"]


class ImagePool:
    """Shows the discriminator an older prediction half of the time (Shrivastava et al. 2017, as CycleGAN uses it).

    Several ranks keep one pool: each holds a copy and swaps the whole batch in the same way, so that they show what one
    rank with the whole batch would show, and a checkpoint of one is a checkpoint of all.

    Args:
        size: predictions kept; 0 shows only fresh ones.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.kept: list[tuple[Tensor, ...]] = []

    def to(self, device: torch.device) -> None:
        """Move the images."""
        self.take_up(self.kept, device)

    def take_up(self, kept: Iterable[Iterable[Tensor]], device: torch.device) -> None:
        """Hold these images instead, on a device."""
        self.kept = [tuple(image.to(device) for image in images) for images in kept]

    def exchange(self, predictions: Pyramid, step: int) -> Pyramid:
        """Fresh predictions with some swapped for older ones; the draw depends on the step alone."""
        if self.size == 0:
            return predictions
        draw = torch.Generator().manual_seed(step)
        gathered = [whole_batch(level) for level in predictions]
        (whole, mine), levels = gathered[0], [level for level, _ in gathered]
        shown = [self._one(tuple(level[index] for level in levels), draw) for index in range(len(whole))]
        return tuple(torch.stack(level) for level in zip(*shown[mine], strict=True))

    def _one(self, fresh: tuple[Tensor, ...], draw: torch.Generator) -> tuple[Tensor, ...]:
        if len(self.kept) < self.size:
            self.kept.append(tuple(level.clone() for level in fresh))
            return fresh
        if torch.rand((), generator=draw) < 0.5:
            return fresh
        index = int(torch.randint(self.size, (), generator=draw))
        older, self.kept[index] = self.kept[index], tuple(level.clone() for level in fresh)
        return older
