"""Owns the curves of a training, kept small enough to travel in every checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["History"]

_MOST_POINTS = 2000


@dataclass
class History:
    """By name, `[step, value]` pairs; a curve that grows too long loses every other point."""

    curves: dict[str, list[list[float]]] = field(default_factory=dict)

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """A point for each value."""
        for name, value in values.items():
            curve = self.curves.setdefault(name, [])
            curve.append([float(step), float(value)])
            if len(curve) > _MOST_POINTS:
                del curve[1::2]
