"""Owns `window`: all images scaled by the same two intensities."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, ClassVar

from medtrans import ConfigError
from medtrans.builtin.transforms.linear import Linear

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np

__all__ = ["Window"]


class Window(Linear):
    """Scale all images by the same two intensities, and clip what lies beyond: for CT and other images with a unit.

    Args:
        range: native intensities that become 0 and 1, the second above the first.
        unit: of the native intensities.

    Raises:
        ConfigError: `range` is not two finite numbers of which the second is larger.

    Source: arXiv 2412.00575 scales CT so, from -1024 to 3000 HU.
    """

    fitted: ClassVar[bool] = False

    def __init__(
        self,
        *,
        range: tuple[float, float] = (-1024.0, 3000.0),  # noqa: A002 -- the option's natural name
        unit: str = "HU",
    ) -> None:
        low, high = range
        if not (isfinite(low) and isfinite(high) and low < high):
            raise ConfigError(f"window: expected range [low, high] with low < high, found [{low:g}, {high:g}]")
        self.range = (float(low), float(high))
        self.unit = unit
        self.data_range = float(high) - float(low)

    def fit(self, volume: np.ndarray, mask: np.ndarray | None) -> dict[str, float]:
        """The limits `low` and `high`, the same for every volume."""
        return {"low": self.range[0], "high": self.range[1]}

    def fit_percentiles(self, percentiles: Callable[[Sequence[float]], list[float]]) -> dict[str, float]:
        """The limits, which no volume changes."""
        return {"low": self.range[0], "high": self.range[1]}
