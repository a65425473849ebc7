"""Label maps as targets: a label map as a target, each class at a step of its own between 0 and 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from medtrans import ConfigError, Preprocess

__all__ = ["Labels"]


class Labels(Preprocess):
    """A label map for a segmentation: background at 0, class n of N at n / N, never interpolated.

    A class may join several labels, such as the whole tumour of 1, 2 and 4. Labels in no class are background.
    Undoing it gives each class the first of its labels.

    Args:
        classes: the labels of each class, by the class's name.

    Raises:
        ConfigError: there is no class, one has no label, or a label is 0 or stands in two classes.
    """

    fitted: ClassVar[bool] = False
    voxelwise: ClassVar[bool] = True
    nearest: ClassVar[bool] = True
    clips = 1.0  # what is in no class becomes background, and that is meant

    def __init__(self, *, classes: Annotated[Mapping[str, tuple[int, ...]], Field(min_length=1)]) -> None:
        used = [label for labels in classes.values() for label in labels]
        faults = [
            f"labels: the class {name} has no label; give it one" for name, labels in classes.items() if not labels
        ]
        faults += [f"labels: {label} stands in two classes; it can be in one" for label in _repeated(used)]
        if not classes:
            faults.append("labels: no class; give at least one, such as {lesion: [1]}")
        if 0 in used:
            faults.append("labels: 0 is the background and can be in no class")
        if faults:
            raise ConfigError(*faults)
        self.classes = {name: tuple(labels) for name, labels in classes.items()}
        self._first = np.array([0, *(labels[0] for labels in self.classes.values())], dtype=np.float32)
        self.data_range = float(np.ptp(self._first))

    def fit(self, volume: np.ndarray, mask: np.ndarray | None) -> dict[str, float]:
        """Nothing: labels mean the same in every volume."""
        return {}

    def apply(self, volume: np.ndarray, numbers: Mapping[str, float]) -> np.ndarray:
        """The class of each voxel, as a step between 0 and 1."""
        scaled = np.zeros(np.shape(volume), dtype=np.float32)
        for number, labels in enumerate(self.classes.values(), 1):
            scaled[np.isin(volume, labels)] = number / len(self.classes)
        return scaled

    def invert(self, volume: np.ndarray, numbers: Mapping[str, float]) -> np.ndarray:
        """The first label of the nearest class."""
        return np.asarray(self._first[np.rint(np.clip(volume, 0, 1) * len(self.classes)).astype(int)])


def _repeated(labels: Sequence[int]) -> list[int]:
    return sorted({label for label in labels if labels.count(label) > 1})
