"""Structural similarity of one scale and of several, as published and as the SynthRAD challenges compute it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import Field
from scipy.ndimage import uniform_filter
from skimage.metrics import structural_similarity

from medtrans import ConfigError, DataError
from medtrans.builtin.metrics import VolumeMetric, width_of

__all__ = ["MSSSIM", "SSIM", "SynthRADSSIM"]

WINDOW = 7
"""Side of the window in voxels, as Ha et al. and both SynthRAD challenges have it."""

BORDER = WINDOW // 2
"""How many voxels from an edge a window still sticks out of the volume."""


def inner(volume: np.ndarray) -> np.ndarray:
    """A volume without the voxels whose window sticks out of it."""
    return volume[(slice(BORDER, -BORDER),) * 3]


def shifted_inside(volume: np.ndarray, mask: np.ndarray | None, limits: tuple[float, float]) -> np.ndarray:
    """Clip to `limits`, put the lower limit outside the mask, and shift so that it becomes 0; float64."""
    low, high = limits
    clipped = np.clip(volume.astype(np.float64), low, high)
    return clipped - low if mask is None else np.where(mask, clipped - low, 0.0)


_GAUSSIAN_SIDE = 11
"""Voxels a side that scikit-image's Gaussian of sigma 1.5 reaches, cut off at 3.5 sigma."""


class SSIM(VolumeMetric):
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

    def score(
        self, prediction: np.ndarray, target: np.ndarray, mask: np.ndarray | None, spacing_mm: Sequence[float]
    ) -> float:
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
        return float(mean if mask is None else similarity[mask].mean())


class SynthRADSSIM(VolumeMetric):
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

    def score(
        self, prediction: np.ndarray, target: np.ndarray, mask: np.ndarray | None, spacing_mm: Sequence[float]
    ) -> float:
        if min(target.shape) < WINDOW:
            raise DataError(f"SSIM needs at least {WINDOW} voxels a side but the volume has {target.shape}.")
        x, y = (shifted_inside(volume, mask, self.limits) for volume in (target, prediction))
        _, similarity = structural_similarity(  # type: ignore[no-untyped-call] # scikit-image comes without types
            x, y, data_range=self.data_range, win_size=WINDOW, full=True
        )
        scored = inner(similarity)[... if mask is None else inner(mask)]
        return float(scored.mean()) if scored.size else math.nan


WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the scales, finest first (Wang et al. 2003, table 1)."""

K1, K2 = 0.01, 0.03


class MSSSIM(VolumeMetric):
    """Multi-scale structural similarity in 3D, uniform 7^3 window, sample covariance; 1 for identical volumes.

    `wang2003`: at each scale the mean of contrast times structure, at the coarsest also that of luminance times both,
    each raised to the scale's weight and multiplied. A scale has the means of 2^3 voxels of the finer one (a last odd
    plane is dropped), a mask every second voxel. Negative means count as 0.

    `synthrad2025`: as that challenge computes it, with two quirks kept: luminance has an exponent at *every* scale, and
    exponents act on the maps *before* they are averaged. The images are clipped to `range` and shifted to begin at 0,
    are 0 outside the mask, and have edge voxels repeated at both ends until no side is below 97; each map leaves out a
    border of 3 voxels; a scale is the mean of a voxel and its lower neighbours, 0 beyond the edge, at every second
    voxel; the mean inside the mask is clipped to [0, 1] at each scale.

    Source: Wang, Simoncelli and Bovik, Asilomar 2003; the definition of SynthRAD2025's image metrics. NaN where a
    scale's mask is empty.

    Args:
        data_range: width of the range the target's intensities can take; `synthrad2025` goes by `range` instead.
        variant: "wang2003" or "synthrad2025".
        levels: scales of `wang2003`; with fewer than 5, for small volumes, their weights are brought to a sum of 1.
        range: HU of `synthrad2025` that become 0 and R.

    Raises:
        ConfigError: `synthrad2025` with other than 5 levels, or a range that is none.
    """

    unit = ""
    higher_is_better = True

    def __init__(
        self,
        data_range: float,
        *,
        variant: Literal["wang2003", "synthrad2025"] = "wang2003",
        levels: Annotated[int, Field(ge=1, le=5)] = 5,
        range: tuple[float, float] = (-1024.0, 3071.0),  # noqa: A002 -- the option's natural name
    ) -> None:
        if variant == "synthrad2025" and levels != len(WEIGHTS):
            raise ConfigError(f"ms_ssim: synthrad2025 has 5 levels, found {levels}; leave levels out")
        self.variant, self.levels, self.limits = variant, levels, range
        self.data_range = width_of(range) if variant == "synthrad2025" else data_range
        how = f"3D MS-SSIM, variant {variant}, {levels} levels, uniform 7^3 window, sample covariance"
        if variant == "synthrad2025":
            how += f", clipped to [{range[0]:g}, {range[1]:g}], luminance at every level, exponents before the mean"
        self.definition = f"{how}, K1 = 0.01, K2 = 0.03, R = {self.data_range:g}"

    def score(
        self, prediction: np.ndarray, target: np.ndarray, mask: np.ndarray | None, spacing_mm: Sequence[float]
    ) -> float:
        inside = np.ones(target.shape, bool) if mask is None else mask
        if self.variant == "synthrad2025":
            return self._synthrad2025(prediction, target, inside)
        smallest = WINDOW * 2 ** (self.levels - 1)
        if min(target.shape) < smallest:
            raise DataError(
                f"MS-SSIM with {self.levels} levels needs at least {smallest} voxels a side but the volume has "
                f"{target.shape}: give the metric fewer levels (options: {{levels: 3}}) or leave it out."
            )
        return self._wang2003(prediction.astype(np.float64), target.astype(np.float64), inside)

    def _wang2003(self, x: np.ndarray, y: np.ndarray, inside: np.ndarray) -> float:
        weights = np.array(WEIGHTS[: self.levels]) / sum(WEIGHTS[: self.levels])
        product = 1.0
        for level, weight in enumerate(weights):
            if level:
                x, y = _halved(x), _halved(y)
                inside = inside[::2, ::2, ::2][tuple(slice(side) for side in x.shape)]
            luminance, contrast, structure = self._maps(x, y)
            similarity = contrast * structure
            if level == self.levels - 1:
                similarity = luminance * similarity
            scored = inner(similarity)[inner(inside)]
            product *= max(float(scored.mean()), 0.0) ** float(weight) if scored.size else math.nan
        return product

    def _synthrad2025(self, prediction: np.ndarray, target: np.ndarray, inside: np.ndarray) -> float:
        # Four halvings take 97 voxels to 7, the window's side.
        missing = [max(0, WINDOW * 2**4 - 15 - side) for side in target.shape]
        ends = [(lack // 2, lack - lack // 2) for lack in missing]
        x, y = (np.pad(shifted_inside(one, inside, self.limits), ends, "edge") for one in (target, prediction))
        inside = np.pad(inside, ends, "edge")
        product = 1.0
        for level, weight in enumerate(WEIGHTS):
            if level:
                x, y = (uniform_filter(one, 2, mode="constant")[::2, ::2, ::2] for one in (x, y))
                inside = inside[::2, ::2, ::2]
            similarity = np.ones_like(x)
            for part in self._maps(x, y):
                similarity *= np.maximum(part, 0) ** weight
            scored = inner(similarity)[inner(inside)]
            product *= min(max(float(scored.mean()), 0.0), 1.0) if scored.size else math.nan
        return product

    def _maps(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Luminance, contrast and structure around each voxel of two float64 volumes."""
        first, second = (K1 * self.data_range) ** 2, (K2 * self.data_range) ** 2
        # Windows see the volume mirrored beyond its edges; variances and the covariance are the sample's (n - 1).
        sample = WINDOW**3 / (WINDOW**3 - 1)
        mean_x, mean_y = uniform_filter(x, WINDOW), uniform_filter(y, WINDOW)
        # Rounding can take the variance of a flat region below 0, where it has no root.
        variance_x = np.maximum(sample * (uniform_filter(x * x, WINDOW) - mean_x * mean_x), 0)
        variance_y = np.maximum(sample * (uniform_filter(y * y, WINDOW) - mean_y * mean_y), 0)
        covariance = sample * (uniform_filter(x * y, WINDOW) - mean_x * mean_y)
        deviations = np.sqrt(variance_x * variance_y)
        luminance = (2 * mean_x * mean_y + first) / (mean_x**2 + mean_y**2 + first)
        contrast = (2 * deviations + second) / (variance_x + variance_y + second)
        structure = (covariance + second / 2) / (deviations + second / 2)
        return luminance, contrast, structure


def _halved(volume: np.ndarray) -> np.ndarray:
    """The means of 2^3 voxels; a last odd plane is dropped."""
    i, j, k = (side // 2 for side in volume.shape)
    blocks = volume[: 2 * i, : 2 * j, : 2 * k].reshape(i, 2, j, 2, k, 2)
    return np.asarray(blocks.mean(axis=(1, 3, 5)))
