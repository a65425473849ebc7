"""Owns how the SynthRAD challenges make two CT images ready for structural similarity."""

from __future__ import annotations

import numpy as np

__all__ = ["shifted_inside"]


def shifted_inside(volume: np.ndarray, mask: np.ndarray | None, limits: tuple[float, float]) -> np.ndarray:
    """Clip to `limits`, put the lower limit outside the mask, and shift so that it becomes 0; float64."""
    low, high = limits
    clipped = np.clip(volume.astype(np.float64), low, high)
    return clipped - low if mask is None else np.where(mask, clipped - low, 0.0)
