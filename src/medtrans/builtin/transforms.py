"""Intensity scalings: by two numbers of an image, by Nyul's landmarks, and that of label maps.

Each brings native intensities to [0, 1] and back.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import isfinite
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from medtrans import ConfigError, DataError, Preprocess

__all__ = ["Labels", "Linear", "MinMax", "Nyul", "Percentile", "Window", "ZScore"]

_BRIGHT = 0.1  # of the robust intensity range: the rule by which volumes are cropped to their foreground


class Linear(Preprocess, ABC):
    """Base of scalings whose numbers are `low`, which becomes 0, and `high`, which becomes 1."""

    voxelwise: ClassVar[bool] = True

    @abstractmethod
    def fit(self, volume: np.ndarray, mask: np.ndarray | None) -> dict[str, float]:
        """The limits `low` and `high`.

        Raises:
            DataError: nothing lies between them, or the mask holds no voxel.
        """

    def apply(self, volume: np.ndarray, numbers: Mapping[str, float]) -> np.ndarray:
        """The volume in float32, clipped to [0, 1]; of any shape and number type."""
        scaled = volume.astype(np.float64)  # integers would wrap, and float32 would lose digits of wide ranges
        scaled -= numbers["low"]
        scaled /= numbers["high"] - numbers["low"]
        return np.clip(scaled, 0, 1, out=scaled).astype(np.float32)

    def invert(self, volume: np.ndarray, numbers: Mapping[str, float]) -> np.ndarray:
        """A volume in [0, 1] back in native intensities, in float32; of any shape."""
        native = volume.astype(np.float64)
        native *= numbers["high"] - numbers["low"]
        native += numbers["low"]
        return native.astype(np.float32)


def inside(volume: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """The voxels to fit to: those inside the mask, or all where there is none.

    Raises:
        DataError: there are none.
    """
    voxels = volume if mask is None else volume[mask]
    if not voxels.size:
        raise DataError("the mask holds no voxel, so there is nothing to fit to; check the mask")
    return voxels


def bright(volume: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """The voxels to fit to where background must not count: inside the mask, else the foreground.

    The foreground is what is brighter than the 0.5th percentile by more than a tenth of the distance to the 99.5th;
    where nothing is, all voxels.

    Raises:
        DataError: the mask holds no voxel.
    """
    if mask is not None:
        return inside(volume, mask)
    low, high = np.percentile(volume, (0.5, 99.5))
    foreground = volume[volume > low + _BRIGHT * (high - low)]
    return foreground if foreground.size else volume


def limits(low: float, high: float, voxels: np.ndarray | Callable[[], Sequence[float]]) -> dict[str, float]:
    """The numbers of a fit, once it is sure that they can scale; `voxels` may be a function of the extreme values.

    Raises:
        DataError: `high` is not above `low`, or one is not finite.
    """
    if np.isfinite(low) and np.isfinite(high) and high > low:
        return {"low": float(low), "high": float(high)}
    values = voxels() if callable(voxels) else voxels
    smallest, largest = float(np.min(values)), float(np.max(values))
    if smallest == largest:
        raise DataError(f"every voxel is {smallest:g}: nothing to normalise; exclude the case")
    raise DataError(
        f"nothing to normalise between {low:g} and {high:g}, although values go from {smallest:g} to {largest:g}; "
        f"take wider percentiles, minmax or window, or exclude the case"
    )


class MinMax(Linear):
    """Scale each image by its own smallest and largest value.

    They are those inside the mask where there is one, else of the whole volume. Nothing is clipped without a mask,
    but one bright voxel darkens all others; `percentile` withstands it.

    Source: arXiv 2412.00575 scales MR so, over the whole volume.
    """

    fitted: ClassVar[bool] = True

    def fit(self, volume: np.ndarray, mask: np.ndarray | None) -> dict[str, float]:
        voxels = inside(volume, mask)
        return limits(float(voxels.min()), float(voxels.max()), voxels)

    def fit_percentiles(self, percentiles: Callable[[Sequence[float]], list[float]]) -> dict[str, float]:
        """The same limits of a volume whose percentiles are known."""
        low, high = percentiles((0, 100))
        return limits(low, high, lambda: (low, high))


class Percentile(Linear):
    """Scale each image by two percentiles of its own values, and clip what lies beyond.

    They are taken inside the mask where there is one, else over the whole (cropped) volume with its background.

    Args:
        lower: percentile that becomes 0.
        upper: percentile that becomes 1; above `lower`.

    Raises:
        ConfigError: `upper` is not above `lower`.
    """

    fitted: ClassVar[bool] = True

    def __init__(
        self, *, lower: Annotated[float, Field(ge=0, lt=100)] = 0.5, upper: Annotated[float, Field(gt=0, le=100)] = 99.5
    ) -> None:
        if not 0 <= lower < upper <= 100:
            raise ConfigError(f"percentile: expected 0 <= lower < upper <= 100, found lower {lower:g}, upper {upper:g}")
        self.lower = lower
        self.upper = upper
        self.clips = (lower + 100 - upper) / 100

    def fit(self, volume: np.ndarray, mask: np.ndarray | None) -> dict[str, float]:
        voxels = inside(volume, mask)
        low, high = np.percentile(voxels, (self.lower, self.upper))
        return limits(float(low), float(high), voxels)

    def fit_percentiles(self, percentiles: Callable[[Sequence[float]], list[float]]) -> dict[str, float]:
        """The same limits of a volume whose percentiles are known."""
        low, high = percentiles((self.lower, self.upper))
        return limits(low, high, lambda: percentiles((0, 100)))


class Window(Linear):
    """Scale all images by the same two intensities, and clip what lies beyond: for CT and other images with a unit.

    Args:
        range: native intensities that become 0 and 1, the second above the first.
        unit: of the native intensities.

    Raises:
        ConfigError: `range` is not two finite numbers of which the second is larger.

    Source: arXiv 2412.00575 scales CT so, from -1024 to 3000 HU.
    """

    fitted: ClassVar[bool] = False

    def __init__(
        self,
        *,
        range: tuple[float, float] = (-1024.0, 3000.0),  # noqa: A002 -- the option's natural name
        unit: str = "HU",
    ) -> None:
        low, high = range
        if not (isfinite(low) and isfinite(high) and low < high):
            raise ConfigError(f"window: expected range [low, high] with low < high, found [{low:g}, {high:g}]")
        self.range = (float(low), float(high))
        self.unit = unit
        self.data_range = float(high) - float(low)

    def fit(self, volume: np.ndarray, mask: np.ndarray | None) -> dict[str, float]:
        return {"low": self.range[0], "high": self.range[1]}

    def fit_percentiles(self, percentiles: Callable[[Sequence[float]], list[float]]) -> dict[str, float]:
        return {"low": self.range[0], "high": self.range[1]}


class ZScore(Linear):
    """Scale each image by its mean and standard deviation, and clip what lies beyond `clip_sd` of them.

    Both are taken inside the mask where there is one, else over the foreground: what is brighter than the 0.5th
    percentile by more than a tenth of the distance to the 99.5th. The mean becomes 0.5.

    Args:
        clip_sd: standard deviations from the mean to 0 and to 1.
    """

    fitted: ClassVar[bool] = True

    def __init__(self, *, clip_sd: Annotated[float, Field(gt=0)] = 4.0) -> None:
        self.clip_sd = clip_sd

    def fit(self, volume: np.ndarray, mask: np.ndarray | None) -> dict[str, float]:
        voxels = bright(volume, mask)
        mean = float(voxels.mean(dtype=np.float64))
        reach = self.clip_sd * float(voxels.std(dtype=np.float64))
        return limits(mean - reach, mean + reach, voxels)


_FIRST, _LAST = 0.1, 0.9  # where the outer landmarks stand; the tails beyond them fill the rest of [0, 1]
_NEAREST = 1e-3  # least distance of standard landmarks, without which the way back would be lost


class Nyul(Preprocess):
    """Bring each image's histogram landmarks to a standard scale that is learnt from the training images.

    The landmarks are two outer percentiles and the deciles between, inside the mask where there is one, else over the
    foreground (what is brighter than the 0.5th percentile by more than a tenth of the distance to the 99.5th). The
    standard landmarks are the means over the training images once their outer landmarks are moved to 0.1 and 0.9.
    Images of validation and test are not looked at for them. Between landmarks intensities move linearly; from the
    outer ones on to the image's smallest and largest value, which become 0 and 1. Nothing is clipped.

    Args:
        lower: percentile of the first landmark; below 10.
        upper: percentile of the last landmark; above 90.

    Raises:
        ConfigError: `lower` or `upper` lies among the deciles.

    Source: Nyul and Udupa, "On standardizing the MR image intensity scale", Magn Reson Med 42, 1999, and Nyul, Udupa
    and Zhang, IEEE Trans Med Imaging 19, 2000 (landmarks L4). Differs: the foreground is not what exceeds the mean,
    and the tails reach the image's extremes, so that the scaling can be undone.
    """

    fitted: ClassVar[bool] = True
    voxelwise: ClassVar[bool] = True

    def __init__(
        self, *, lower: Annotated[float, Field(gt=0, lt=10)] = 1.0, upper: Annotated[float, Field(gt=90, lt=100)] = 99.0
    ) -> None:
        if not (0 < lower < 10 and 90 < upper < 100):
            raise ConfigError(f"nyul: expected 0 < lower < 10 and 90 < upper < 100, found {lower:g} and {upper:g}")
        self.percentiles = (float(lower), *(float(decile) for decile in range(10, 100, 10)), float(upper))

    def learn(self, samples: Iterable[tuple[np.ndarray, np.ndarray | None]]) -> dict[str, list[float]]:
        """The standard `landmarks`, ascending in [0.1, 0.9], from training images and their masks.

        Raises:
            DataError: there is no image, or one has nothing to normalise.
        """
        moved = []
        for volume, mask in samples:
            landmarks = self._landmarks(volume, mask)
            # Scanners differ in gain and offset: only where the deciles lie between the outer landmarks is averaged.
            moved.append((landmarks - landmarks[0]) / (landmarks[-1] - landmarks[0]))
        if not moved:
            raise DataError("nyul: no training image to learn the standard scale from")
        # Two standard landmarks at one place would map a range of intensities to a point, without a way back.
        steps = np.maximum(np.diff(np.mean(moved, axis=0)), _NEAREST)
        standard = _FIRST + (_LAST - _FIRST) * np.concatenate([[0.0], np.cumsum(steps) / steps.sum()])
        return {"landmarks": standard.tolist()}

    def fit(self, volume: np.ndarray, mask: np.ndarray | None) -> dict[str, float]:
        """The image's landmarks, by percentile, with its smallest and largest value `min` and `max`.

        Raises:
            DataError: the outer landmarks are equal, or the mask holds no voxel.
        """
        landmarks = dict(zip(self._names(), self._landmarks(volume, mask).tolist(), strict=True))
        # The extremes are those of the whole volume, also where a mask chose the landmarks: nothing outside is clipped.
        return {"min": float(volume.min()), **landmarks, "max": float(volume.max())}

    def apply(self, volume: np.ndarray, numbers: Mapping[str, float]) -> np.ndarray:
        """The volume in float32 in [0, 1]; of any shape and number type."""
        # Two of the image's own landmarks may be equal (nothing lies between two deciles); the standard ones never are,
        # so the way back is one function all the same.
        return np.asarray(np.interp(volume, self._own(numbers), self._standard()), dtype=np.float32)

    def invert(self, volume: np.ndarray, numbers: Mapping[str, float]) -> np.ndarray:
        """A volume in [0, 1] back in native intensities, in float32; of any shape."""
        return np.asarray(np.interp(volume, self._standard(), self._own(numbers)), dtype=np.float32)

    def _names(self) -> list[str]:
        return [f"p{percentile:g}" for percentile in self.percentiles]

    def _landmarks(self, volume: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
        voxels = bright(volume, mask)
        landmarks = np.percentile(voxels, self.percentiles)
        limits(float(landmarks[0]), float(landmarks[-1]), voxels)
        return np.asarray(landmarks)

    def _own(self, numbers: Mapping[str, float]) -> list[float]:
        return [numbers[name] for name in ("min", *self._names(), "max")]

    def _standard(self) -> list[float]:
        if "landmarks" not in self.learned:
            raise DataError("nyul: the standard scale is not learnt yet; a run learns it from its training cases")
        return [0.0, *self.learned["landmarks"], 1.0]


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
        repeated = sorted({label for label in used if used.count(label) > 1})
        faults += [f"labels: {label} stands in two classes; it can be in one" for label in repeated]
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
