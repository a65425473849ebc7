"""Two signs of a translator that does not translate: it hands its source on, or gives everybody the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from medtrans.data.fingerprint import block_means, correlation

__all__ = ["Similarity", "collapse", "copy_through", "likeness_of"]


_COPY = 0.01
_VARIATION = 0.2


class Similarity(NamedTuple):
    """What one case contributes.

    Args:
        source_prediction: correlation of source and prediction in the foreground.
        source_target: that of source and target; None without a target.
        source: coarse look of the source.
        prediction: coarse look of the prediction.
    """

    source_prediction: float
    source_target: float | None
    source: np.ndarray
    prediction: np.ndarray


def likeness_of(
    source: np.ndarray, prediction: np.ndarray, target: np.ndarray | None, inside: np.ndarray
) -> Similarity:
    """Compare the images of a case.

    Args:
        source: `(i, j, k)` in [0, 1].
        prediction: likewise.
        target: likewise.
        inside: `(i, j, k)` booleans, the foreground.
    """
    return Similarity(
        correlation(source[inside], prediction[inside]),
        None if target is None else correlation(source[inside], target[inside]),
        block_means(source),
        block_means(prediction),
    )


def copy_through(cases: Sequence[Similarity]) -> dict[str, Any]:
    """Whether predictions are their sources: 1 - the median correlation, which is below 0.01 while the targets' is not.

    Returns:
        "source_prediction" and "source_target" (medians of the correlations, None without), and "flagged".
    """
    ours = [case.source_prediction for case in cases]
    theirs = [case.source_target for case in cases if case.source_target is not None]
    own = float(np.median(ours)) if ours else None
    true = float(np.median(theirs)) if theirs else None
    flagged = own is not None and 1 - own < _COPY and (true is None or true < own)
    return {"source_prediction": own, "source_target": true, "flagged": flagged}


def collapse(cases: Sequence[Similarity]) -> dict[str, Any]:
    """Whether predictions differ from case to case as their sources do.

    The spread over cases of the means of 8^3 blocks, averaged over the blocks, of predictions over that of sources.

    Returns:
        "variation" (the quotient; None for fewer than 3 cases or sources that do not differ), "nearest_pair" (the
        largest correlation between two cases' predictions, None for fewer than 2) and "flagged": below 0.2.
    """
    variation = nearest = None
    if len(cases) >= 3:
        sources, predictions = (
            float(np.stack([getattr(case, name) for case in cases]).std(axis=0).mean())
            for name in ("source", "prediction")
        )
        variation = predictions / sources if sources > 0 else None
    pairs = [
        correlation(one.prediction, other.prediction) for place, one in enumerate(cases) for other in cases[place + 1 :]
    ]
    if pairs:
        nearest = max(pairs)
    return {
        "variation": variation,
        "nearest_pair": nearest,
        "flagged": variation is not None and variation < _VARIATION,
    }
