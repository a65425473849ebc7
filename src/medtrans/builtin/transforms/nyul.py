"""Nyul scaling: each image's histogram landmarks brought to a standard scale learnt from the training images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from medtrans import ConfigError, DataError, Preprocess
from medtrans.builtin.transforms.linear import bright, limits

__all__ = ["Nyul"]

_FIRST, _LAST = 0.1, 0.9  # where the outer landmarks stand; the tails beyond them fill the rest of [0, 1]
_NEAREST = 1e-3  # least distance of standard landmarks, without which the way back would be lost
_ENDS = ("min", "max")


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
        first, last = _ENDS
        return [numbers[name] for name in (first, *self._names(), last)]

    def _standard(self) -> list[float]:
        if "landmarks" not in self.learned:
            raise DataError("nyul: the standard scale is not learnt yet; a run learns it from its training cases")
        return [0.0, *self.learned["landmarks"], 1.0]
