"""MONAI's metrics as medtrans' metrics: one whole volume in, one number out.

Each class is MONAI's own with MONAI's own options. MONAI's metrics know no mask: the whole volume is scored, and each
definition says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from monai import metrics

from medtrans import DataError

__all__ = ["RMSE", "SSIM", "MultiScaleSSIM"]

_EVERYWHERE = "over the whole volume, without regard to masks (MONAI)"


class SSIM(metrics.SSIMMetric):
    """MONAI's structural similarity in 3D; 1 for identical volumes.

    The window is Gaussian, of 11^3 voxels by default, and stays inside the volume.
    """

    unit = ""
    higher_is_better = True

    @property
    def definition(self) -> str:
        """The formula in one line."""
        return f"3D SSIM, {_window(self)}, R = {self.data_range:g}, {_EVERYWHERE}"

    def __call__(  # type: ignore[override]  # medtrans' contract
        self, prediction: np.ndarray, target: np.ndarray, mask: np.ndarray | None, spacing_mm: Sequence[float]
    ) -> float:
        """Score `prediction` against `target`, both `(i, j, k)`.

        Raises:
            DataError: MONAI cannot score these volumes.
        """
        return _score(self, super().__call__, prediction, target)


class MultiScaleSSIM(metrics.MultiScaleSSIMMetric):
    """MONAI's structural similarity over several resolutions (Wang et al. 2003), a weight for each.

    With the default five resolutions and a window of 11 voxels each side must have more than 160 voxels. Values of
    other implementations differ: name this one beside a score.
    """

    unit = ""
    higher_is_better = True

    @property
    def definition(self) -> str:
        """The formula in one line."""
        scales = ", ".join(f"{weight:g}" for weight in self.weights)
        return f"3D MS-SSIM, weights {scales}, {_window(self)}, R = {self.data_range:g}, {_EVERYWHERE}"

    def __call__(  # type: ignore[override]  # medtrans' contract
        self, prediction: np.ndarray, target: np.ndarray, mask: np.ndarray | None, spacing_mm: Sequence[float]
    ) -> float:
        """Score `prediction` against `target`, both `(i, j, k)`.

        Raises:
            DataError: MONAI cannot score these volumes; one may be too small.
        """
        return _score(self, super().__call__, prediction, target)


class RMSE(metrics.RMSEMetric):
    """MONAI's root mean squared error, in the target's own unit.

    `unit` is "native": the evaluation writes the target's unit in its place.
    """

    unit = "native"
    higher_is_better = False
    definition = f"sqrt(mean((prediction - target)^2)), {_EVERYWHERE}"

    def __call__(  # type: ignore[override]  # medtrans' contract
        self, prediction: np.ndarray, target: np.ndarray, mask: np.ndarray | None, spacing_mm: Sequence[float]
    ) -> float:
        """Score `prediction` against `target`, both `(i, j, k)`.

        Raises:
            DataError: MONAI cannot score these volumes.
        """
        return _score(self, super().__call__, prediction, target)


def _score(metric: Any, score: Any, prediction: np.ndarray, target: np.ndarray) -> float:
    """MONAI's number for one volume; what MONAI gathers for a mean over many is thrown away."""
    images = [
        torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32))[None, None] for image in (prediction, target)
    ]
    try:
        value = float(score(y_pred=images[0], y=images[1]))
    except ValueError as error:
        raise DataError(f"MONAI cannot score a volume of {target.shape} voxels: {error}") from error
    finally:
        metric.reset()
    return value


def _window(metric: Any) -> str:
    sides = "x".join(map(str, metric.kernel_size))
    return f"{metric.kernel_type} window of {sides}, K1 = {metric.k1:g}, K2 = {metric.k2:g}"
