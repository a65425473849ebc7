"""The way from stored numbers to finite physical values."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medtrans.errors import DataError
from medtrans.image_layout import Layout
from medtrans.reading_rules import ReadingRules

__all__ = ["finite_fault", "physical"]


def physical(path: Path, stored: np.ndarray, layout: Layout, rules: ReadingRules) -> tuple[np.ndarray, tuple[str, ...]]:
    """The voxels in physical values, in memory order i, j, k, and the rule that was needed for them.

    Raises:
        DataError: they are not finite and no rule fills them, or they lie beyond float32.
    """
    if layout.dtype.kind != "f":
        return np.ascontiguousarray(stored, layout.dtype), ()
    values = np.empty(layout.shape, np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is counted below
        for i in range(layout.shape[0]):  # slice by slice: float64 of the whole volume would double the memory
            values[i] = stored[i].astype(np.float64) * layout.slope + layout.inter if layout.scaled else stored[i]
    notes: tuple[str, ...] = ()
    if rules.fill_not_finite is not None:
        broken = ~np.isfinite(stored)
        if count := int(broken.sum()):
            values[broken] = rules.fill_not_finite
            stored = np.where(broken, 0, stored)
            found = f"{count:,} of {values.size:,} voxels are NaN or infinite"
            notes = (f"{found}: set to {rules.fill_not_finite:g} (reading.fill_not_finite)",)
    if fault := finite_fault(values, stored):
        advice = " or set reading.fill_not_finite to a value that takes their place" if "beyond" not in fault else ""
        raise DataError(f"{path}: {fault}. Fix or exclude the image{advice}.")
    return values, notes


def finite_fault(values: np.ndarray, origin: np.ndarray) -> str | None:
    """How many float32 `values` are not finite, and whether they were so in their `origin`; None where all are."""
    finite = np.isfinite(values)
    if finite.all():
        return None
    counts = {
        "are NaN": np.isnan(origin).sum(),
        "are infinite": np.isinf(origin).sum(),
        "lie beyond float32": (~finite & np.isfinite(origin)).sum(),
    }
    found = " and ".join(f"{count:,} of {values.size:,} voxels {what}" for what, count in counts.items() if count)
    return f"{found}, expected finite numbers"
