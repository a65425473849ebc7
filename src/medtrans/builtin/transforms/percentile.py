"""Owns `percentile`: each image scaled by two percentiles of its own values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from medtrans import ConfigError
from medtrans.builtin.transforms.linear import Linear, inside, limits, sound_limits

__all__ = ["Percentile"]


class Percentile(Linear):
    """Scale each image by two percentiles of its own values, and clip what lies beyond.

    They are taken inside the mask where there is one, else over the whole (cropped) volume with its background.

    Args:
        lower: percentile that becomes 0.
        upper: percentile that becomes 1; above `lower`.

    Raises:
        ConfigError: `upper` is not above `lower`.
    """

    fitted: ClassVar[bool] = True

    def __init__(
        self,
        *,
        lower: Annotated[float, Field(ge=0, lt=100)] = 0.5,
        upper: Annotated[float, Field(gt=0, le=100)] = 99.5,
    ) -> None:
        if not 0 <= lower < upper <= 100:
            raise ConfigError(f"percentile: expected 0 <= lower < upper <= 100, found lower {lower:g}, upper {upper:g}")
        self.lower = lower
        self.upper = upper
        self.clips = (lower + 100 - upper) / 100

    def fit(self, volume: np.ndarray, mask: np.ndarray | None) -> dict[str, float]:
        """The limits `low` and `high`.

        Raises:
            DataError: the percentiles are equal, or the mask holds no voxel.
        """
        voxels = inside(volume, mask)
        low, high = np.percentile(voxels, (self.lower, self.upper))
        return limits(float(low), float(high), voxels)

    def fit_percentiles(self, percentiles: Callable[[Sequence[float]], list[float]]) -> dict[str, float]:
        """The same limits of a volume whose percentiles are known."""
        low, high = percentiles((self.lower, self.upper))

        def extremes() -> tuple[float, float]:
            smallest, largest = percentiles((0, 100))
            return smallest, largest

        return sound_limits(low, high, extremes)
