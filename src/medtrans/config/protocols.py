"""The published ways of scoring: which metrics, in which intensities, over which voxels, with which quirks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

__all__ = ["PROTOCOLS", "Protocol", "ScoringProtocol"]


Protocol: TypeAlias = Literal["native", "mdaunet", "synthrad2023", "synthrad2025"]


@dataclass(frozen=True)
class ScoringProtocol:
    """One way of scoring.

    Args:
        metrics: the slots that stand for it, by key; a config may add others under other keys.
        intensities: "scaled": as the target's scaling has them, clipped to its range, a fixed one in its unit and a
            fitted one in [0, 1]; "unit": always in [0, 1], fitted ones stretched to their own extremes once more;
            "stored": the target as its file has it, in HU.
        limits: HU that the metrics clip to, of "stored" intensities.
        mask: whether only its voxels count: "used" where a case has one, "required" of every case, or "ignored".
        zero_outside: whether both images are 0 outside the box of the target above 0 within that of the source.
        population_sd: whether the spread over cases divides by n instead of n - 1.
        about: what a reader of the scores must know, one quirk a sentence.
    """

    metrics: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    intensities: Literal["scaled", "unit", "stored"] = "scaled"
    limits: tuple[float, float] | None = None
    mask: Literal["used", "required", "ignored"] = "used"
    zero_outside: bool = False
    population_sd: bool = False
    about: str = ""


PROTOCOLS: Mapping[str, ScoringProtocol] = {
    "native": ScoringProtocol(about="inside the mask where there is one"),
    "mdaunet": ScoringProtocol(
        metrics={"psnr": {"name": "psnr"}, "ssim": {"name": "ssim"}, "nmse": {"name": "nmse"}},
        intensities="unit",
        mask="ignored",
        zero_outside=True,
        population_sd=True,
        about=(
            "as Ha et al. (arXiv 2412.00575): whole volumes without a mask, in [0, 1], MR stretched to its own "
            "extremes; both images are 0 outside the box of source and target, which counts as perfect and raises PSNR "
            "and SSIM; SD of the population; not comparable with SynthRAD's tables"
        ),
    ),
    "synthrad2023": ScoringProtocol(
        metrics={
            "mae": {"name": "mae"},
            "psnr": {"name": "psnr", "options": {"range": [-1024.0, 3000.0]}},
            "ssim": {"name": "ssim_synthrad2023", "options": {"range": [-1024.0, 3000.0]}},
        },
        intensities="stored",
        limits=(-1024.0, 3000.0),
        mask="required",
        about=(
            "as SynthRAD2023: HU inside the mask, MAE unclipped, PSNR and SSIM clipped to [-1024, 3000]; SSIM sees "
            "both images equal outside the mask and leaves out a border of 3 voxels"
        ),
    ),
    "synthrad2025": ScoringProtocol(
        metrics={
            "mae": {"name": "mae"},
            "psnr": {"name": "psnr", "options": {"range": [-1024.0, 3071.0]}},
            "ms_ssim": {"name": "ms_ssim", "options": {"variant": "synthrad2025", "range": [-1024.0, 3071.0]}},
        },
        intensities="stored",
        limits=(-1024.0, 3071.0),
        mask="required",
        about=(
            "as SynthRAD2025's scoring container: HU inside the mask, MAE unclipped, PSNR and MS-SSIM clipped to "
            "[-1024, 3071] (its metrics repository has 3000, its page a width of 4000); MS-SSIM has luminance at every "
            "level and exponents before the mean"
        ),
    ),
}
"""By the name a config gives."""
