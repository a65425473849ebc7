"""How the phantoms look in MR (signal equations, bias field, noise), in CT and in cone-beam CT."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft2, rfft2
from scipy.ndimage import gaussian_filter

from medtrans.builtin.datasets.phantom.shapes import Points, Waves
from medtrans.builtin.datasets.phantom.tissues import PROPERTIES, Fractions, Properties, Tissue

__all__ = ["SEQUENCES", "Sequence", "cbct_image", "ct_image", "mr_image"]

_R1, _R2 = 4.1, 4.6  # 1/(mmol/l s): a gadolinium chelate in plasma at 1.5 T
_FULL_SCALE = 1500.0
_NOISE = 0.015  # standard deviation over the brightest tissue's signal
_BIAS = 0.05  # standard deviation of the field's logarithm


@dataclass(frozen=True)
class Sequence:
    """How one contrast is acquired: repetition and echo time, an inversion pulse that nulls CSF, contrast agent."""

    tr_ms: float
    te_ms: float
    inverted: bool = False
    contrast: bool = False

    def signal(self, tissue: Properties) -> float:
        """Of one tissue, relative to the equilibrium signal of water.

        Spin echo: PD (1 - exp(-TR/T1)) exp(-TE/T2). With inversion at TI: PD (1 - 2 exp(-TI/T1) + exp(-TR/T1))
        exp(-TE/T2), negative before its null. Contrast agent adds relaxivity times concentration to 1/T1 and 1/T2.
        """
        t1, t2 = tissue.t1_ms, tissue.t2_ms
        if self.contrast:
            t1 = 1 / (1 / t1 + _R1 * tissue.contrast_mmol / 1000)
            t2 = 1 / (1 / t2 + _R2 * tissue.contrast_mmol / 1000)
        recovery = 1 - np.exp(-self.tr_ms / t1)
        if self.inverted:
            recovery = 1 - 2 * np.exp(-self._nulling_ms() / t1) + np.exp(-self.tr_ms / t1)
        return float(tissue.proton_density * recovery * np.exp(-self.te_ms / t2))

    def _nulling_ms(self) -> float:
        fluid = PROPERTIES[Tissue.CSF].t1_ms
        return float(fluid * np.log(2 / (1 + np.exp(-self.tr_ms / fluid))))


SEQUENCES: Mapping[str, Sequence] = MappingProxyType(
    {
        "t1": Sequence(tr_ms=500, te_ms=15),
        "t2": Sequence(tr_ms=4000, te_ms=100),
        "pd": Sequence(tr_ms=4000, te_ms=20),
        "flair": Sequence(tr_ms=9000, te_ms=110, inverted=True),
        "t1ce": Sequence(tr_ms=500, te_ms=15, contrast=True),
    }
)


def mr_image(
    sequence: Sequence,
    fractions: Fractions,
    points: Points,
    subject_rng: np.random.Generator,
    image_rng: np.random.Generator,
) -> NDArray[np.float32]:
    """One contrast of one subject: magnitude (i, j, k) of about 0 to 1000, with bias field and Rician noise.

    Args:
        sequence: how it is acquired.
        fractions: share (i, j, k) of each tissue.
        points: positions (3, i, j, k) in mm, for the bias field.
        subject_rng: draws how far the subject's tissues deviate; in the same state for all contrasts of a subject.
        image_rng: draws gain, bias field and noise.
    """
    signal = np.zeros(points.shape[1:], np.float32)
    for tissue in Tissue:  # every tissue draws, drawn or not, so that one subject has the same tissues throughout
        own = _of_subject(PROPERTIES[tissue], subject_rng)
        if tissue in fractions:
            signal += np.float32(sequence.signal(own)) * fractions[tissue]
    gain = _FULL_SCALE * image_rng.uniform(0.9, 1.1)
    bias = np.exp(np.float32(_BIAS) * Waves(image_rng, 6, (180, 360))(points))
    brightest = max(sequence.signal(PROPERTIES[tissue]) for tissue in Tissue)
    noise = np.float32(_NOISE * brightest) * image_rng.standard_normal((2, *signal.shape), np.float32)
    return np.asarray(np.float32(gain) * np.hypot(signal * bias + noise[0], noise[1]))


def _of_subject(tissue: Properties, rng: np.random.Generator) -> Properties:
    t1, t2, density = np.exp(rng.normal(size=3) * (0.03, 0.03, 0.015))
    return tissue._replace(
        t1_ms=tissue.t1_ms * t1, t2_ms=tissue.t2_ms * t2, proton_density=tissue.proton_density * density
    )


Spacing: TypeAlias = tuple[float, float, float]

_AIR_HU, _TOP_HU = -1000.0, 3071.0
_BLUR_MM = 0.8
_NOISE_HU = 12.0

_CBCT_BLUR_MM = 1.4
_CBCT_NOISE_HU = 40.0
_CUPPING_HU = 120.0
_STREAK_HU = 55.0
_VIEWS = 24
_RADIUS, _HEIGHT = 0.45, 0.45  # of the cylinder of view, over the narrower side of the axial plane and over the height


def ct_image(
    fractions: Fractions, spacing_mm: Spacing, subject_rng: np.random.Generator, image_rng: np.random.Generator
) -> NDArray[np.float32]:
    """The CT (i, j, k) of one subject in HU; `subject_rng` draws how dense its tissues are, `image_rng` the noise."""
    return _scanned(_attenuation(fractions, subject_rng), _BLUR_MM, _NOISE_HU, spacing_mm, image_rng)


def cbct_image(
    fractions: Fractions, spacing_mm: Spacing, subject_rng: np.random.Generator, image_rng: np.random.Generator
) -> NDArray[np.float32]:
    """The cone-beam CT of one subject: cupping by scatter, streaks from bone and gas, noise, a cylinder of view.

    The cupping is a smooth dip that grows with the depth in the body; the streaks are what a back-projection from few
    directions leaves of whatever stands out from soft tissue. Both are stand-ins of the right look, not a simulation of
    the scanner. The gantry turns about the third axis of the grid. `subject_rng` must be in the same state as for
    `ct_image`; `image_rng` draws directions of view and noise.
    """
    clean = _attenuation(fractions, subject_rng)
    body = 1 - fractions[Tissue.AIR]
    depth = gaussian_filter(body, [45 / side for side in spacing_mm], mode="nearest")
    cupped = clean - np.float32(_CUPPING_HU) * body * np.square(depth)
    streaked = cupped + _streaks(np.clip(clean, -500, 1200), body, spacing_mm, image_rng)
    seen = _scanned(streaked, _CBCT_BLUR_MM, _CBCT_NOISE_HU, spacing_mm, image_rng)
    return np.where(_cylinder(clean.shape, spacing_mm), seen, np.float32(_AIR_HU))


def _attenuation(fractions: Fractions, rng: np.random.Generator) -> NDArray[np.float32]:
    total = np.zeros_like(fractions[Tissue.AIR])
    for tissue in Tissue:  # every tissue draws, drawn or not, so that one subject has the same tissues throughout
        hu, deviation = PROPERTIES[tissue].hu, rng.normal()
        spread = 0.06 * hu if hu > 100 else 1.5  # bone differs between people far more than soft tissue
        own = hu if hu == _AIR_HU else hu + spread * deviation
        if tissue in fractions:
            total += np.float32(own) * fractions[tissue]
    return total


def _scanned(
    image: NDArray[np.float32], blur_mm: float, noise_hu: float, spacing_mm: Spacing, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Blurred, with noise, and limited to the numbers that a scanner stores."""
    blurred = gaussian_filter(image, [blur_mm / side for side in spacing_mm])
    noise = np.float32(noise_hu) * rng.standard_normal(image.shape, np.float32)
    return np.asarray(np.clip(blurred + noise, _AIR_HU, _TOP_HU, dtype=np.float32))


def _streaks(
    clean: NDArray[np.float32], body: NDArray[np.float32], spacing_mm: Spacing, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Axial slices folded with a star of `_VIEWS` thin lines, bright on each line and dark between."""
    standing_out = (clean - 50) * body
    sides = clean.shape[:2]
    x, y = (
        (np.arange(-side, side, dtype=np.float32) * np.float32(step))
        for side, step in zip(sides, spacing_mm, strict=False)
    )
    width = np.float32(0.8 * max(spacing_mm[:2]))
    star = np.zeros((len(x), len(y)), np.float32)
    for angle in np.pi * (np.arange(_VIEWS) + rng.uniform()) / _VIEWS:
        offset = x[:, None] * np.float32(np.sin(angle)) - y[None, :] * np.float32(np.cos(angle))
        star += np.exp(-0.5 * np.square(offset / width))
    # All directions together leave the image itself; what few directions leave beside it is the streaks.
    ring = np.hypot(x[:, None], y[None, :]) / width
    rings = ring.astype(np.intp)
    star -= (np.bincount(rings.ravel(), star.ravel()) / np.bincount(rings.ravel()))[rings].astype(np.float32)
    star *= ring > 3  # next to its source a streak is not told from the source itself
    spectrum = rfft2(np.fft.ifftshift(star))
    padded = np.zeros((2 * sides[0], 2 * sides[1], clean.shape[2]), np.float32)
    padded[: sides[0], : sides[1]] = standing_out
    folded = irfft2(rfft2(padded, axes=(0, 1)) * spectrum[:, :, None], s=padded.shape[:2], axes=(0, 1))
    streaks = folded[: sides[0], : sides[1]] * body
    strongest = max(float(np.percentile(np.abs(streaks), 99)), 1e-6)
    return np.asarray(np.float32(2 * _STREAK_HU / strongest) * streaks, np.float32)


def _cylinder(shape: tuple[int, ...], spacing_mm: Spacing) -> NDArray[np.bool_]:
    offsets = [(np.arange(side) - (side - 1) / 2) * step for side, step in zip(shape, spacing_mm, strict=True)]
    radius = _RADIUS * min(shape[0] * spacing_mm[0], shape[1] * spacing_mm[1])
    round_about: NDArray[np.bool_] = np.hypot(offsets[0][:, None, None], offsets[1][None, :, None]) < radius
    return np.asarray(round_about & (np.abs(offsets[2]) < _HEIGHT * shape[2] * spacing_mm[2]))
