"""Owns the contract of metrics that give several columns, or look at more than a prediction and its target."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from medtrans.components import Metric

__all__ = ["DetailedMetric", "Surroundings"]


@dataclass(frozen=True)
class Surroundings:
    """What lies around a scored volume.

    Args:
        images: further images of the case by modality, `(i, j, k)` on the grid of the volume, intensities as stored;
            only those a metric asks for and the case has.
        retranslated: given a share of a window's side, the prediction made once more with all windows moved by that
            share; None where nothing can be translated again, as with predictions read from files.
    """

    images: Mapping[str, np.ndarray] = field(default_factory=dict)
    retranslated: Callable[[float], np.ndarray] | None = None


class DetailedMetric(Metric):
    """A metric with more columns than one, or one that looks at the surroundings of what it scores.

    Its own score has the column of any metric, the key in the config; each part has the column `<key>_<part>`. A score
    that is undefined, such as that of a label which a case lacks, is NaN, and is left out of means.

    Attributes:
        parts: the further columns, the name of each to its definition; they share unit and direction.
        images: modalities it wants beside prediction and target, interpolated onto their grid.
        label_maps: modalities whose voxels are numbers of classes, brought there by the nearest voxel.
    """

    parts: Mapping[str, str] = {}
    images: tuple[str, ...] = ()
    label_maps: tuple[str, ...] = ()

    @abstractmethod
    def scores(
        self,
        prediction: np.ndarray,
        target: np.ndarray,
        mask: np.ndarray | None,
        spacing_mm: Sequence[float],
        surroundings: Surroundings,
    ) -> Mapping[str, float]:
        """As a metric is called, with the surroundings; gives its own score under "" and each part's under its name."""

    def __call__(
        self, prediction: np.ndarray, target: np.ndarray, mask: np.ndarray | None, spacing_mm: Sequence[float]
    ) -> float:
        """Its own score without any surroundings."""
        return self.scores(prediction, target, mask, spacing_mm, Surroundings())[""]
