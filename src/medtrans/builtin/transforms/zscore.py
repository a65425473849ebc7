"""Owns `zscore`: each image scaled by the mean and the standard deviation of its own values."""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from medtrans.builtin.transforms.linear import Linear, bright, limits

__all__ = ["ZScore"]


class ZScore(Linear):
    """Scale each image by its mean and standard deviation, and clip what lies beyond `clip_sd` of them.

    Both are taken inside the mask where there is one, else over the foreground: what is brighter than the 0.5th
    percentile by more than a tenth of the distance to the 99.5th. The mean becomes 0.5.

    Args:
        clip_sd: standard deviations from the mean to 0 and to 1.
    """

    fitted: ClassVar[bool] = True

    def __init__(self, *, clip_sd: Annotated[float, Field(gt=0)] = 4.0) -> None:
        self.clip_sd = clip_sd

    def fit(self, volume: np.ndarray, mask: np.ndarray | None) -> dict[str, float]:
        """The limits `low` and `high`, `clip_sd` standard deviations below and above the mean.

        Raises:
            DataError: all values are equal, or the mask holds no voxel.
        """
        voxels = bright(volume, mask)
        mean = float(voxels.mean(dtype=np.float64))
        reach = self.clip_sd * float(voxels.std(dtype=np.float64))
        return limits(mean - reach, mean + reach, voxels)
