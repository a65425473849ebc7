"""Two signs of a network that does not translate: it hands its source on, or gives every source the same answer.

Looked for in pieces of the validation cases while a run trains, and in whole test cases afterwards, by one rule.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from medtrans.data.fingerprint import correlation

__all__ = ["SPREAD", "Collapse", "ComparedCase", "CopyThrough", "collapse", "compare_case", "copy_through"]


COPIED = 0.99
"""Correlation of source and prediction above which a prediction is a copy."""

MARGIN = 0.005
"""By which the target must be less like the source than the prediction is: where both are like it, nothing is wrong."""

SPREAD = 0.2
"""Of the spread of the images, that predictions must have."""

ALIKE = 0.99
"""Correlation above which a prediction is the same as another."""


@dataclass(frozen=True)
class ComparedCase:
    """What is kept of one case.

    Args:
        correlations: for each source channel with each target, in that order: the correlation in the foreground of the
            source with the prediction, and with the target (None without one).
        source: samples `(n, c, ...)`, by which cases are compared.
        prediction: the same samples of the prediction.
        target: the same samples of the target; None without one.
    """

    correlations: tuple[tuple[float, float | None], ...]
    source: np.ndarray
    prediction: np.ndarray
    target: np.ndarray | None


def compare_case(
    source: np.ndarray,
    prediction: np.ndarray,
    target: np.ndarray | None,
    foreground: np.ndarray,
    sample: Callable[[np.ndarray], np.ndarray],
) -> ComparedCase:
    """Compare the images of a case, all `(c, i, j, k)` in [0, 1].

    Args:
        source: the source.
        prediction: the prediction.
        target: the target, or None.
        foreground: `(i, j, k)` booleans, at least one of them True.
        sample: takes the samples `(n, c, ...)` of an image `(c, i, j, k)`.
    """
    correlations = tuple(
        (
            correlation(given[foreground], made[foreground]),
            None if target is None else correlation(given[foreground], target[channel][foreground]),
        )
        for given in source
        for channel, made in enumerate(prediction)
    )
    return ComparedCase(correlations, sample(source), sample(prediction), None if target is None else sample(target))


@dataclass(frozen=True)
class CopyThrough:
    """Medians over cases of the correlations of a source channel with a prediction and its target; None without."""

    source_prediction: float | None
    source_target: float | None

    @property
    def flagged(self) -> bool:
        """Whether the prediction is the source over again though the target is not."""
        copied, true = self.source_prediction, self.source_target
        return copied is not None and copied > COPIED and (true is None or true < copied - MARGIN)


def copy_through(cases: Sequence[ComparedCase]) -> CopyThrough:
    """Whether predictions are their sources: the first pair of channels that is flagged, else the first of all."""
    found = []
    for pairs in zip(*(case.correlations for case in cases), strict=True):
        true = [one for _, one in pairs if one is not None]
        median = float(np.median(true)) if true else None
        found.append(CopyThrough(float(np.median([copied for copied, _ in pairs])), median))
    return next((one for one in found if one.flagged), found[0] if found else CopyThrough(None, None))


@dataclass(frozen=True)
class Collapse:
    """How much predictions differ from each other; None for fewer than three samples, or images that do not differ.

    Args:
        variation: the spread of the predictions over that of the images.
        nearest: the correlation of a prediction with the one most like it, median over samples.
        nearest_of_images: the same of the sources or the targets, whichever are more alike.
    """

    variation: float | None
    nearest: float | None
    nearest_of_images: float | None

    @property
    def flagged(self) -> bool:
        """Whether predictions are nearly the same though the images are not."""
        if self.variation is None or self.nearest is None or self.nearest_of_images is None:
            return False
        # Images of one anatomy are alike too: predictions must be so where images are not, and five times as much.
        alike = self.nearest > ALIKE > self.nearest_of_images
        alike = alike and 1 - self.nearest < SPREAD * (1 - self.nearest_of_images)
        return self.variation < SPREAD or alike


def collapse(cases: Sequence[ComparedCase]) -> Collapse:
    """Whether different sources give nearly the same prediction.

    The spread of n samples is their standard deviation at a voxel, mean over voxels. That of the predictions is held
    against the smaller of the sources' and the targets': a target whose scale is wide, such as CT in a window of
    thousands of HU, varies little by nature.
    """
    if sum(len(case.source) for case in cases) < 3:
        return Collapse(None, None, None)
    source, prediction = (np.concatenate([getattr(case, name) for case in cases]) for name in ("source", "prediction"))
    images, expected = [source], float(_spreads(source).mean())
    targets = [case.target for case in cases if case.target is not None]
    if len(targets) == len(cases):
        images.append(np.concatenate(targets))
        expected = min(expected, float(_spreads(images[1]).min()))
    if expected == 0:
        return Collapse(None, None, None)
    variation = float(_spreads(prediction).min()) / expected
    return Collapse(variation, _nearest(prediction), max(map(_nearest, images)))


def _spreads(samples: np.ndarray) -> np.ndarray:
    """By channel of samples `(n, c, ...)`, how far they differ from each other."""
    deviations = samples.astype(np.float64).std(axis=0)
    return np.asarray(deviations.reshape(len(deviations), -1).mean(axis=1))


def _nearest(samples: np.ndarray) -> float:
    """The correlation of a sample with the one most like it, median over samples; of constant ones 1."""
    rows = samples.reshape(len(samples), -1).astype(np.float64)
    rows -= rows.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(rows, axis=1)
    flat = norms < 1e-9 * math.sqrt(rows.shape[1])
    rows /= np.where(flat, 1, norms)[:, None]
    table = rows @ rows.T
    table[np.ix_(flat, flat)] = 1
    np.fill_diagonal(table, -1)
    return float(np.median(table.max(axis=1)))
