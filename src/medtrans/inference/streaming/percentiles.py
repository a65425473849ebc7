"""The exact percentiles of voxels that are seen a part at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

__all__ = ["can_be_ordered", "percentiles"]


_BINS = 2**16


def can_be_ordered(kind: np.dtype[np.generic]) -> bool:
    """Whether `percentiles` takes voxels of this type."""
    return kind == np.float32 or (kind.kind in "iu" and kind.itemsize <= 4)


def percentiles(parts: Callable[[], Iterable[np.ndarray]], percents: Sequence[float]) -> list[float]:
    """What `numpy.percentile` gives of all parts together, by memory for counts alone.

    The voxels are sorted by their bits: one pass counts the upper 16, a second, where the type has more, the lower 16
    of those voxels that the percentiles lie among.

    Args:
        parts: begins a pass over all voxels, finite float32 or integers of up to 32 bits, in any shapes.
        percents: from 0 to 100.

    Raises:
        ValueError: there is no voxel.
    """
    upper = np.zeros(_BINS, np.int64)
    kind: np.dtype[np.generic] | None = None
    for part in parts():
        kind = part.dtype
        upper += np.bincount(_keys(part) >> 16, minlength=_BINS)
    total = int(upper.sum())
    if kind is None or not total:
        raise ValueError("there are no percentiles of no voxels")
    places = [percent / 100 * (total - 1) for percent in percents]
    ranks = sorted({rank for place in places for rank in (int(place), min(int(place) + 1, total - 1))})
    before = np.concatenate([[0], np.cumsum(upper)])
    bins = {rank: int(np.searchsorted(before, rank, side="right")) - 1 for rank in ranks}
    lower = {one: np.zeros(_BINS, np.int64) for one in set(bins.values())}
    if kind.itemsize > 2:
        for part in parts():
            keys = _keys(part)
            for one, counts in lower.items():
                counts += np.bincount(keys[keys >> 16 == one] & (_BINS - 1), minlength=_BINS)
    values = {}
    for rank, one in bins.items():
        low = int(np.searchsorted(np.cumsum(lower[one]), rank - before[one], side="right")) if kind.itemsize > 2 else 0
        values[rank] = _value((one << 16) + low, kind)
    return [_between(values[int(place)], values[min(int(place) + 1, total - 1)], place % 1) for place in places]


def _keys(part: np.ndarray) -> np.ndarray:
    """Unsigned numbers of 32 bits, in int64, ordered as the voxels are; a narrow type's bits stand uppermost."""
    flat = np.ascontiguousarray(part).reshape(-1)
    if flat.dtype == np.float32:
        bits = (flat + np.float32(0)).view(np.uint32)  # adding 0 makes -0 a 0
        return np.where(bits >> 31, ~bits, bits | np.uint32(2**31)).astype(np.int64)
    limits = np.iinfo(flat.dtype)
    return (flat.astype(np.int64) - limits.min) << (16 if flat.dtype.itemsize <= 2 else 0)


def _value(key: int, kind: np.dtype[np.generic]) -> float:
    if kind == np.float32:
        bits = key - 2**31 if key >> 31 else 2**32 - 1 - key
        return float(np.uint32(bits).view(np.float32))
    key >>= 16 if kind.itemsize <= 2 else 0
    return float(key + np.iinfo(kind.name).min)


def _between(low: float, high: float, share: float) -> float:
    """As numpy interpolates: from the nearer end, so that equal ends give just that."""
    return low + (high - low) * share if share < 0.5 else high - (high - low) * (1 - share)
