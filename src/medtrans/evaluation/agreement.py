"""How predictions differ from targets voxel by voxel and on average: small counts that a report draws."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

__all__ = ["Agreement", "agreement_facts"]


_BINS = 401  # over twice the data range; an odd number, so that one of them is around 0


@dataclass(frozen=True)
class Agreement:
    """What is kept of one predicted volume: no voxel, counts of errors and two means.

    Args:
        counts: `(401,)`, voxels by prediction - target, in equal bins from -data_range to data_range.
        data_range: in the unit of the scores.
        means: of prediction and target over the voxels that count.
    """

    counts: np.ndarray
    data_range: float
    means: tuple[float, float]

    @classmethod
    def of(cls, prediction: np.ndarray, target: np.ndarray, mask: np.ndarray | None, data_range: float) -> Self:
        """Count the errors of a volume.

        Args:
            prediction: `(i, j, k)`.
            target: likewise.
            mask: boolean `(i, j, k)`, where it counts; None counts every voxel.
            data_range: of the target; larger errors count as this large.
        """
        made, true = (image.ravel() if mask is None else image[mask] for image in (prediction, target))
        if not made.size:
            return cls(np.zeros(_BINS, dtype=np.int64), data_range, (float("nan"), float("nan")))
        errors = np.clip(made - true, -data_range, data_range)
        counts, _ = np.histogram(errors, bins=_BINS, range=(-data_range, data_range))
        return cls(counts, data_range, (float(made.mean(dtype=np.float64)), float(true.mean(dtype=np.float64))))


def agreement_facts(found: Mapping[str, Mapping[str, Agreement]], units: Mapping[str, str]) -> dict[str, Any]:
    """All of `pictures/errors.json`.

    Args:
        found: by case number and target.
        units: by target.

    Returns:
        By target: "unit", "bin" (its width), "first" (lower end of the first bin), "counts" of the voxels of all cases
        without the empty bins at both ends, and "means": by case number `[of the prediction, of the target]`.
    """
    facts = {}
    for target, unit in units.items():
        each = {label: by_target[target] for label, by_target in found.items()}
        counts = sum((one.counts for one in each.values()), np.zeros(_BINS, dtype=np.int64))
        data_range = max((one.data_range for one in each.values()), default=1.0)
        filled = np.flatnonzero(counts)
        low, high = (int(filled[0]), int(filled[-1]) + 1) if filled.size else (0, 0)
        width = 2 * data_range / _BINS
        facts[target] = {
            "unit": unit,
            "bin": width,
            "first": -data_range + low * width,
            "counts": counts[low:high].tolist(),
            "means": {label: list(one.means) for label, one in each.items() if np.isfinite(one.means).all()},
        }
    return facts
