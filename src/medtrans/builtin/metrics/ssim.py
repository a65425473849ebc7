"""Owns the structural similarity, as usual and as SynthRAD2023 scored it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from skimage.metrics import structural_similarity

from medtrans import DataError, Metric
from medtrans.builtin.metrics import require_comparable, width_of
from medtrans.builtin.metrics.similarity_maps import WINDOW, inner
from medtrans.builtin.metrics.synthrad_images import shifted_inside

__all__ = ["SSIM", "SynthRADSSIM"]

_GAUSSIAN_SIDE = 11
"""Voxels a side that scikit-image's Gaussian of sigma 1.5 reaches, cut off at 3.5 sigma."""


class SSIM(Metric):
    """Structural similarity in 3D; 1 for identical volumes.

    Without a mask this is scikit-image's mean, which leaves out the border where the window sticks out of the volume;
    with one it is the mean of the similarity map inside the mask, while windows near its edge see beyond it.

    Source: Wang et al., IEEE TIP 13(4), 2004, as `skimage.metrics.structural_similarity` extends it to volumes
    (K1 = 0.01, K2 = 0.03). Ha et al. (arXiv 2412.00575) use the same uniform window of 7 voxels and sample covariance;
    Wang et al. use the Gaussian and the population's.

    Args:
        data_range: width of the range the target's intensities can take, not the range one image happens to have.
        window: side of a uniform window in voxels, whatever the spacing, or "gaussian" for one of sigma 1.5 over 11
            voxels; every side of the volume must be at least as long.
        covariance: divide by n - 1 ("sample") or by n ("population") in variances and covariance.
    """

    unit = ""
    higher_is_better = True

    def __init__(
        self,
        data_range: float,
        *,
        window: Literal[3, 5, 7, 9, 11, "gaussian"] = 7,
        covariance: Literal["sample", "population"] = "sample",
    ) -> None:
        self.data_range = data_range
        self.window = window
        self.covariance = covariance
        weights = "Gaussian window of sigma 1.5 (11^3)" if window == "gaussian" else f"uniform {window}^3 window"
        self.definition = (
            f"3D SSIM, {weights}, {covariance} covariance, K1 = 0.01, K2 = 0.03, R = {data_range:g} (scikit-image)"
        )

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
        side = _GAUSSIAN_SIDE if self.window == "gaussian" else self.window
        if min(target.shape) < side:
            raise DataError(
                f"SSIM needs at least {side} voxels a side but the volume has {target.shape}: give the metric a "
                "smaller window (options: {window: 3}) or leave it out."
            )
        mean, similarity = structural_similarity(  # type: ignore[no-untyped-call] # scikit-image comes without types
            target.astype(np.float64),
            prediction.astype(np.float64),
            data_range=self.data_range,
            win_size=side,
            gaussian_weights=self.window == "gaussian",
            use_sample_covariance=self.covariance == "sample",
            full=True,
        )
        return float(mean if mask is None else similarity[mask.astype(bool, copy=False)].mean())


class SynthRADSSIM(Metric):
    """Structural similarity of CT as SynthRAD2023 scored it; 1 for identical volumes.

    Both images are clipped to `range`; outside the mask both are its lower end. The mean is taken over the voxels of
    the mask whose window lies in the volume. Windows at the mask's edge see the equal outside, which raises the score.

    Source: the definition of SynthRAD2023's image metrics. The published script hands a SimpleITK image to a function
    that needs an array for the mask; this is what it means to compute.

    Args:
        range: HU that become 0 and R.
    """

    unit = ""
    higher_is_better = True

    def __init__(
        self,
        *,
        range: tuple[float, float] = (-1024.0, 3000.0),  # noqa: A002 -- the option's natural name
    ) -> None:
        self.limits = range
        self.data_range = width_of(range)
        self.definition = (
            f"3D SSIM as SynthRAD2023: clipped to [{range[0]:g}, {range[1]:g}], {range[0]:g} outside the mask, uniform "
            f"7^3 window, sample covariance, K1 = 0.01, K2 = 0.03, R = {self.data_range:g}, mean inside the mask "
            "without a border of 3 voxels"
        )

    def __call__(
        self,
        prediction: np.ndarray,
        target: np.ndarray,
        mask: np.ndarray | None,
        spacing_mm: Sequence[float],
    ) -> float:
        """Score `prediction` against `target`, both `(i, j, k)` in HU, inside `mask`.

        NaN where the mask lies in the border of 3 voxels altogether.

        Raises:
            DataError: the shapes differ, the mask holds no voxel, or a side is shorter than the window.
        """
        require_comparable(prediction, target, mask)
        if min(target.shape) < WINDOW:
            raise DataError(f"SSIM needs at least {WINDOW} voxels a side but the volume has {target.shape}.")
        x = shifted_inside(target, mask, self.limits)
        y = shifted_inside(prediction, mask, self.limits)
        _, similarity = structural_similarity(  # type: ignore[no-untyped-call] # scikit-image comes without types
            x, y, data_range=self.data_range, win_size=WINDOW, full=True
        )
        similarity = inner(similarity)
        inside = ... if mask is None else inner(mask.astype(bool, copy=False))
        scored = similarity[inside]
        return float(scored.mean()) if scored.size else math.nan
