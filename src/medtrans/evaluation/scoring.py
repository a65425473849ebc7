"""The scores of a case: in which units it is scored, and what each column of them holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING

import numpy as np

from medtrans.config.protocols import PROTOCOLS, Protocol
from medtrans.errors import DataError, SetupError
from medtrans.evaluation.scores import Column
from medtrans.plugins.interfaces import DetailedMetric, Surroundings

if TYPE_CHECKING:
    from medtrans.plugins.interfaces import Metric, Preprocess

__all__ = ["columns_of", "data_range_of", "score", "scored_in", "scoring_space", "unit_of"]


# What code that scores may raise; a metric may be anybody's.
_FAILURES = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


def data_range_of(
    scalings: Mapping[str, Preprocess], target: str, *, protocol: Protocol = "native"
) -> tuple[float, float]:
    """Lower end and width of the range that scores of `target` refer to.

    A protocol's limits, a fixed scaling's window, else [0, 1].
    """
    scaling, published = scalings[target], PROTOCOLS[protocol]
    if published.limits is not None:
        low, high = published.limits
        return low, high - low
    if scaling.fitted or published.intensities == "unit":
        return 0.0, 1.0
    nothing = np.zeros((1, 1, 1), dtype=np.float32)
    return float(scaling.invert(nothing, scaling.fit(nothing, None))[0, 0, 0]), scaling.data_range


def unit_of(scalings: Mapping[str, Preprocess], target: str, *, protocol: Protocol = "native") -> str:
    """The unit in which `target` is scored: that of a fixed scaling, such as "HU", else ""."""
    scaling = scalings[target]
    return "" if scaling.fitted or PROTOCOLS[protocol].intensities == "unit" else scaling.unit


def scored_in(scalings: Mapping[str, Preprocess], target: str, scaling: str, *, protocol: Protocol = "native") -> str:
    """The intensities that scores of `target` refer to, in words; scores under different words are not comparable.

    Args:
        scalings: by modality.
        target: the modality.
        scaling: name and options of its scaling.
        protocol: the way of scoring.
    """
    low, width = data_range_of(scalings, target, protocol=protocol)
    place = f"[{low:g}, {low + width:g}] {unit_of(scalings, target, protocol=protocol)}".rstrip()
    if PROTOCOLS[protocol].limits is not None:
        return f"{place}, clipped where a metric says so"
    if scalings[target].fitted or PROTOCOLS[protocol].intensities == "unit":
        return f"{place} after {scaling}"
    return f"{place}, clipped"


def scoring_space(
    scaled: np.ndarray,
    targets: Sequence[str],
    scalings: Mapping[str, Preprocess],
    numbers: Mapping[str, Mapping[str, float]],
    *,
    protocol: Protocol = "native",
) -> np.ndarray:
    """Intensities as they are scored; prediction and target go through here alike.

    What lies outside [0, 1] is clipped, so a fixed scaling scores both images inside its window only: an HU above the
    window counts as the window's edge.

    Args:
        scaled: `(c, i, j, k)` in [0, 1], a channel a target.
        targets: the modality of each channel.
        scalings: by modality.
        numbers: by modality, the numbers that scaled this case's own target.
        protocol: under "mdaunet" images stay in [0, 1], and where the scaling is fitted both are stretched to their own
            extremes once more, as Ha et al. did for MR: that forgives a wrong brightness and contrast.

    Returns:
        `(c, i, j, k)` float32, each channel in `unit_of` its target.
    """
    channels = []
    for channel, target in zip(np.clip(scaled, 0, 1), targets, strict=True):
        if PROTOCOLS[protocol].intensities == "unit":
            channels.append(_stretched(channel) if scalings[target].fitted else channel)
        else:
            channels.append(channel if scalings[target].fitted else scalings[target].invert(channel, numbers[target]))
    return np.stack(channels).astype(np.float32, copy=False)


def score(
    prediction: np.ndarray,
    target: np.ndarray,
    mask: np.ndarray | None,
    spacing_mm: Sequence[float],
    metrics: Mapping[str, Mapping[str, Metric]],
    *,
    images: Mapping[str, np.ndarray] | None = None,
    retranslated: Callable[[float], np.ndarray] | None = None,
) -> dict[str, float]:
    """All scores of one volume, by column.

    Args:
        prediction: `(c, i, j, k)` in the units of `scoring_space`.
        target: likewise.
        mask: `(i, j, k)` or `(1, i, j, k)`, non-zero where it counts; None scores every voxel.
        spacing_mm: of the grid.
        metrics: target, in the order of the channels, to the metrics made for it (their data range is the target's).
        images: further images of the case by modality, `(i, j, k)` on the same grid.
        retranslated: the prediction made again with windows moved by a share of their side, as `prediction`.

    Raises:
        DataError: the prediction is not finite, or a metric cannot score these volumes.
        SetupError: a metric failed, gave no number, or gave other parts than it announces.
    """
    broken = int(np.size(prediction) - np.count_nonzero(np.isfinite(prediction)))
    if broken:
        raise DataError(
            f"The prediction cannot be scored: {broken} of {np.size(prediction)} voxels are NaN or infinite."
        )
    inside = None if mask is None else np.asarray(mask).reshape(np.shape(target)[1:]) != 0
    again = None if retranslated is None else cache(retranslated)
    scores: dict[str, float] = {}
    for index, (name, of_target) in enumerate(metrics.items()):
        channel = None if again is None else partial(_channel, again, index)
        surroundings = Surroundings(images or {}, channel)
        for key, metric in of_target.items():
            try:
                values = _values(metric, prediction[index], target[index], inside, spacing_mm, surroundings)
                values = {part: float(value) for part, value in values.items()}
            except DataError as error:
                raise DataError(*(f"metrics.{key}: {fault}" for fault in error.faults)) from error
            except _FAILURES as error:
                sides = " × ".join(map(str, target[index].shape))
                raise SetupError(
                    f"metrics.{key}: cannot score {sides} voxels ({type(error).__name__}: {error}); leave the metric "
                    "out, or give it options that suit these volumes"
                ) from error
            announced = ["", *_parts(metric)]
            if set(values) != set(announced):
                raise SetupError(
                    f"metrics.{key}: gave the parts {sorted(values)}, expected {sorted(announced)}: the metric's own "
                    "fault"
                )
            scores |= {_column(key, part, name, metrics): values[part] for part in announced}
    return scores


def columns_of(metrics: Mapping[str, Mapping[str, Metric]], units: Mapping[str, str]) -> dict[str, Column]:
    """What each column of `score` holds; a metric whose unit is "native" or "native^2" is in the unit of its target.

    Args:
        metrics: as `score` takes them.
        units: by target, from `unit_of`.
    """
    return {
        _column(key, part, target, metrics): Column(
            _unit(metric.unit, units[target]), metric.higher_is_better, definition
        )
        for target, of_target in metrics.items()
        for key, metric in of_target.items()
        for part, definition in {"": metric.definition, **_parts(metric)}.items()
    }


def _column(key: str, part: str, target: str, metrics: Mapping[str, Mapping[str, Metric]]) -> str:
    name = f"{key}_{part}" if part else key
    return name if len(metrics) == 1 else f"{name}_{target}"


def _parts(metric: Metric) -> Mapping[str, str]:
    return metric.parts if isinstance(metric, DetailedMetric) else {}


def _values(
    metric: Metric,
    prediction: np.ndarray,
    target: np.ndarray,
    mask: np.ndarray | None,
    spacing_mm: Sequence[float],
    surroundings: Surroundings,
) -> Mapping[str, float]:
    if isinstance(metric, DetailedMetric):
        return metric.scores(prediction, target, mask, spacing_mm, surroundings)
    return {"": metric(prediction, target, mask, spacing_mm)}


def _channel(retranslated: Callable[[float], np.ndarray], index: int, shift: float) -> np.ndarray:
    return np.asarray(retranslated(shift)[index])


def _unit(stated: str, native: str) -> str:
    """A metric's unit with that of the target in place of "native"; nothing where that has none."""
    if "native" not in stated:
        return stated
    return stated.replace("native", native) if native else ""


def _stretched(channel: np.ndarray) -> np.ndarray:
    low, high = float(channel.min()), float(channel.max())
    return (channel - low) / (high - low) if high > low else np.zeros_like(channel)
