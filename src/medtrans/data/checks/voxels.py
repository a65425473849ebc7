"""Which voxels no scaling should be let at: not finite, constant, or grey values where HU are expected."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from medtrans.plugins.interfaces import Preprocess
    from medtrans.volume import Volume

__all__ = ["looks_like_labels", "range_faults", "voxel_faults", "whole_numbers"]


_LARGEST_GREY = 255
_MOST_LABELS = 50
_SAMPLE = 20_000


def voxel_faults(image: Volume, scaling: Preprocess) -> dict[str, str]:
    """Why an image is refused before it is scaled, in a word and as a sentence that follows "modality: ".

    Args:
        image: as stored.
        scaling: of its modality.
    """
    low, high = float(image.data.min()), float(image.data.max())
    if not np.isfinite([low, high]).all():
        count = int((~np.isfinite(image.data)).sum())
        found = f"{count:,} of {image.data.size:,} voxels are NaN or infinite"
        return {"not finite": f"{found}, expected finite numbers; mend the image or exclude the case"}
    return range_faults(low, high, lambda: whole_numbers(image.data), scaling)


def range_faults(low: float, high: float, whole: Callable[[], bool], scaling: Preprocess) -> dict[str, str]:
    """As `voxel_faults`, of an image that goes from `low` to `high`.

    Args:
        low: the smallest value, finite.
        high: the largest value, finite.
        whole: whether all values are whole numbers.
        scaling: of its modality.
    """
    if low == high and not scaling.nearest:
        return {"constant": f"every voxel is {low:g}: nothing to normalise; exclude the case"}
    if _expects_hounsfield(scaling) and low >= 0 and high <= _LARGEST_GREY and whole():
        lower, upper = _limits(scaling)
        found = f"all values are whole numbers from {low:g} to {high:g}"
        advice = "Export it again in HU, or give it a scaling that suits it, such as minmax"
        expected = f"HU are expected ({lower:g} to {upper:g})"
        return {"not in HU": f"{found}, but {expected}. Was it exported as a picture? {advice}"}
    return {}


def looks_like_labels(image: Volume) -> int:
    """How many different values an image has that looks like a label map, else 0: at most 50, all whole numbers."""
    values = image.data.reshape(-1)
    some = np.unique(values[:: max(1, values.size // _SAMPLE)])
    if len(some) > _MOST_LABELS or not whole_numbers(some):
        return 0
    every = np.unique(values)
    return len(every) if 1 < len(every) <= _MOST_LABELS and whole_numbers(every) else 0


def whole_numbers(values: np.ndarray) -> bool:
    """Whether all values are whole."""
    return values.dtype.kind in "biu" or bool((values == np.rint(values)).all())


def _expects_hounsfield(scaling: Preprocess) -> bool:
    """Whether it is made for air and bone, which grey values cannot hold."""
    if scaling.fitted or scaling.unit != "HU":
        return False
    low, high = _limits(scaling)
    return low < 0 and high > _LARGEST_GREY


def _limits(scaling: Preprocess) -> tuple[float, float]:
    """The native intensities of 0 and 1 of a scaling that is not fitted."""
    ends = np.array([[[0.0, 1.0]]], dtype=np.float32)
    low, high = scaling.invert(ends, scaling.fit(ends, None)).ravel()
    return float(low), float(high)
