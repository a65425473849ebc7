"""Owns the warning that a scaling clips intensities of a case."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

import numpy as np

from medtrans.components import Preprocess

__all__ = ["clipping_warnings"]

_CLIPPED = 0.001  # share of a case's voxels that may be clipped beyond what the scaling clips on purpose
_NAMED = 3  # cases a modality; the others are counted


class Scaled(Protocol):
    """What is known of a case once its images are scaled, by modality."""

    @property
    def numbers(self) -> Mapping[str, Mapping[str, float]]:
        """What the scaling was fitted to."""

    @property
    def clipped(self) -> Mapping[str, float]:
        """The share of voxels whose intensity was clipped."""


def clipping_warnings(cases: Iterable[tuple[str, Scaled]], scalings: Mapping[str, Preprocess]) -> list[str]:
    """A warning for each of the worst cases in which more than 0.1 % of voxels are clipped without intent.

    Args:
        cases: label ("case_0001") and what was scaled, such as `Prepared`.
        scalings: by modality.
    """
    found: dict[str, list[tuple[float, str, str]]] = {}
    for label, prepared in cases:
        for modality, share in prepared.clipped.items():
            scaling = scalings[modality]
            if share > scaling.clips + _CLIPPED:
                kept = _kept(scaling, prepared.numbers[modality])
                found.setdefault(modality, []).append((share, label, kept))
    return [warning for modality, several in found.items() for warning in _worded(modality, several)]


def _kept(scaling: Preprocess, numbers: Mapping[str, float]) -> str:
    low, high = scaling.invert(np.array([[[0.0, 1.0]]], dtype=np.float32), numbers).ravel()
    limits = f"{low:.6g} to {high:.6g} {scaling.unit}".rstrip()
    return f"its own limits {limits}" if scaling.fitted else f"the window {limits}"


def _worded(modality: str, several: list[tuple[float, str, str]]) -> list[str]:
    ranked = sorted(several, key=lambda one: (-one[0], one[1]))
    warnings = [
        f"{label}, {modality}: {100 * share:.2g} % of voxels lie outside {kept} and are clipped; widen "
        f"preprocess.intensity.{modality}, or look at the case"
        for share, label, kept in ranked[:_NAMED]
    ]
    more = len(ranked) - _NAMED
    return [*warnings, f"{modality}: the same in {more} more cases"] if more > 0 else warnings
