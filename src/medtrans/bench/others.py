"""Owns what the comparisons with other libraries share: the same volumes, the same counting."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

from medtrans.bench.loader import timed_patches
from medtrans.bench.spread import Spread
from medtrans.bench.subject import Subject
from medtrans.preprocess import Prepared

__all__ = ["MOST", "REPEATS", "compared", "rate", "unless_missing", "volumes"]

REPEATS = 3
MOST = 32
"""Patches in a queue."""


def unless_missing(module: str, compare: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The comparison, or a message where the library is not installed."""
    if find_spec(module) is None:
        return {"left_out": f"{module} is not installed; pip install {module}"}
    return compare()


def volumes(subject: Subject) -> list[Prepared]:
    """The training cases as networks see them."""
    return [subject.study.cache.prepared(member) for member in subject.study.cohort.of("train")]


def rate(batches: Iterator[int]) -> float:
    """Patches in a second, of a loader that says the sizes of its batches."""
    return timed_patches(batches, skip=1)[0]


def compared(ours: dict[str, Any], patches_per_s: float, windows: Spread) -> dict[str, Any]:
    """Their rates, and how many times ours are better."""
    return {
        "patches_per_s": patches_per_s,
        "window_seconds": windows.as_data(),
        "ratios": {
            "loader": ours["patches_per_s"] / patches_per_s,
            "windows": windows.median / ours["window_seconds"],
        },
    }
