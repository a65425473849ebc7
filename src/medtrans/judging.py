"""Owns how a predicted case is scored: against its own target, on the source's own grid, in the target's units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from medtrans.cohort import Member, load_images
from medtrans.components import Metric
from medtrans.evaluation import columns_of, score, scoring_space, target_sha, unit_of
from medtrans.pictures import montage
from medtrans.preprocess import Prepared, Preprocessing
from medtrans.statistics import CaseScores, Column

__all__ = ["Judge", "Truth"]


@dataclass(frozen=True)
class Truth:
    """What a case is scored against, on the source's own grid: all arrays `(c, i, j, k)`, the mask `(i, j, k)`."""

    target: np.ndarray
    mask: np.ndarray | None
    sha: str


class Judge:
    """Scores predictions of members of a cohort.

    Args:
        preprocessing: the run's.
        metrics: by target, those made for it.
        targets: the modalities predicted, in the order of channels.
    """

    def __init__(
        self, preprocessing: Preprocessing, metrics: Mapping[str, Mapping[str, Metric]], targets: Sequence[str]
    ) -> None:
        self._preprocessing = preprocessing
        self._metrics = metrics
        self._targets = tuple(targets)
        self._units = {target: unit_of(preprocessing.scalings, target) for target in targets}

    @property
    def columns(self) -> dict[str, Column]:
        """What each column of scores holds."""
        return columns_of(self._metrics, self._units)

    def truth(self, member: Member, prepared: Prepared) -> Truth:
        """Read a member's target, and its mask where it has one."""
        wanted = [*self._targets, *(["mask"] if "mask" in member.case.images else [])]
        images = load_images(member.case, wanted)
        scalings = self._preprocessing.scalings
        scaled = np.stack(
            [
                scalings[name].apply(self._preprocessing.native_image(images[name], prepared), prepared.numbers[name])
                for name in self._targets
            ]
        )
        mask = images.get("mask")
        return Truth(
            scoring_space(scaled, self._targets, scalings, prepared.numbers),
            None if mask is None else self._preprocessing.native_image(mask, prepared, nearest=True) != 0,
            target_sha(*(images[name] for name in self._targets)),
        )

    def scores(self, scaled: np.ndarray, prepared: Prepared, truth: Truth, member: Member) -> CaseScores:
        """Score a prediction `(c, i, j, k)` in [0, 1] on the prepared grid."""
        native = self._preprocessing.to_native(np.clip(scaled, 0, 1), prepared)
        prediction = scoring_space(native, self._targets, self._preprocessing.scalings, prepared.numbers)
        values = score(prediction, truth.target, truth.mask, prepared.native.spacing_mm, self._metrics)
        return CaseScores(member.label, member.case.case, member.case.subject, values, truth.sha)

    def picture(self, scaled: np.ndarray, prepared: Prepared) -> np.ndarray:
        """Source, prediction, target and error of the first target in three planes, in its units."""
        target = np.zeros_like(scaled) if prepared.target is None else np.asarray(prepared.target)
        scalings, name = self._preprocessing.scalings, self._targets
        return montage(
            np.asarray(prepared.source[0]),
            scoring_space(scaled, name, scalings, prepared.numbers)[0],
            scoring_space(target, name, scalings, prepared.numbers)[0],
            spacing_mm=prepared.grid.spacing_mm,
            mask=None if prepared.mask is None else np.asarray(prepared.mask[0]),
            unit=self._units[name[0]],
        )
