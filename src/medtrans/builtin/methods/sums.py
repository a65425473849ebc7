"""Owns the means of a step's scalars over its chunks."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["Sums"]


class Sums:
    """Means of scalars over chunks, without waiting for the device.

    Args:
        count: of chunks.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._sums: dict[str, Tensor] = {}

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Take in one chunk's scalars."""
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, torch.zeros_like(value)).detach() + value.detach()

    def means(self) -> dict[str, Tensor]:
        """The mean of each scalar, detached."""
        return {name: total / self._count for name, total in self._sums.items()}
