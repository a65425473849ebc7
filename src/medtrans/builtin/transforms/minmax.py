"""Owns `minmax`: each image scaled by its own smallest and largest value."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from medtrans.builtin.transforms.linear import Linear, inside, limits, sound_limits

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np

__all__ = ["MinMax"]


class MinMax(Linear):
    """Scale each image by its own smallest and largest value.

    They are those inside the mask where there is one, else of the whole volume. Nothing is clipped without a mask,
    but one bright voxel darkens all others; `percentile` withstands it.

    Source: arXiv 2412.00575 scales MR so, over the whole volume.
    """

    fitted: ClassVar[bool] = True

    def fit(self, volume: np.ndarray, mask: np.ndarray | None) -> dict[str, float]:
        """The limits `low` and `high`.

        Raises:
            DataError: all values are equal, or the mask holds no voxel.
        """
        voxels = inside(volume, mask)
        return limits(float(voxels.min()), float(voxels.max()), voxels)

    def fit_percentiles(self, percentiles: Callable[[Sequence[float]], list[float]]) -> dict[str, float]:
        """The same limits of a volume whose percentiles are known."""
        low, high = percentiles((0, 100))
        return sound_limits(low, high, lambda: (low, high))
