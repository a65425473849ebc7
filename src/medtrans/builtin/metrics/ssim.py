"""Owns the structural similarity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from skimage.metrics import structural_similarity

from medtrans import DataError, Metric
from medtrans.builtin.metrics import require_comparable

__all__ = ["SSIM"]


class SSIM(Metric):
    """Structural similarity in 3D with a uniform window; 1 for identical volumes.

    Without a mask this is scikit-image's mean, which leaves out the border where the window sticks out of the volume;
    with one it is the mean of the similarity map inside the mask, while windows near its edge see beyond it.

    Source: Wang et al., IEEE TIP 13(4), 2004, as `skimage.metrics.structural_similarity` extends it to volumes
    (K1 = 0.01, K2 = 0.03, sample covariance). Ha et al. (arXiv 2412.00575) use the same window of 7 voxels.

    Args:
        data_range: width of the range the target's intensities can take, not the range one image happens to have.
        window: side of the window in voxels, whatever the spacing; every side of the volume must be at least as long.
    """

    unit = ""
    higher_is_better = True

    def __init__(self, data_range: float, *, window: Literal[3, 5, 7, 9, 11] = 7) -> None:
        self.data_range = data_range
        self.window = window
        self.definition = f"3D SSIM, uniform {window}^3 window, K1 = 0.01, K2 = 0.03, R = {data_range:g} (scikit-image)"

    def __call__(
        self,
        prediction: np.ndarray,
        target: np.ndarray,
        mask: np.ndarray | None,
        spacing_mm: Sequence[float],
    ) -> float:
        """Score `prediction` against `target`, both `(i, j, k)` in the unit of `data_range`, inside `mask`.

        Raises:
            DataError: the shapes differ, the mask holds no voxel, or a side is shorter than the window.
        """
        require_comparable(prediction, target, mask)
        if min(target.shape) < self.window:
            raise DataError(
                f"SSIM needs at least {self.window} voxels a side but the volume has {target.shape}: give the metric a "
                "smaller window (options: {window: 3}) or leave it out."
            )
        mean, similarity = structural_similarity(  # type: ignore[no-untyped-call] # scikit-image comes without types
            target.astype(np.float64),
            prediction.astype(np.float64),
            data_range=self.data_range,
            win_size=self.window,
            full=True,
        )
        return float(mean if mask is None else similarity[mask.astype(bool, copy=False)].mean())
