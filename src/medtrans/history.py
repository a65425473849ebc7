"""Owns the curves of a training, kept small enough to travel in every checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["History"]

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
