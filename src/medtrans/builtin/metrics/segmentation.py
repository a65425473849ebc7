"""Metrics of label maps: overlap and distance of surfaces."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from medtrans.builtin.metrics import VolumeMetric, VoxelMetric

__all__ = ["HD95", "Dice"]


class Dice(VoxelMetric):
    """Twice the voxels that prediction and target share over the voxels of both, for one label.

    Without a voxel of the label in either it is 1, as BraTS counts it; without one in just one of them it is 0.

    Source: Dice, "Measures of the amount of ecologic association between species", Ecology 26, 1945.

    Args:
        label: the value of the region's voxels.
    """

    unit = ""
    higher_is_better = True

    def __init__(self, *, label: int) -> None:
        self.label = label
        self.definition = f"2 |P and T| / (|P| + |T|) of label {label}; 1 where both are empty"

    def score(self, prediction: np.ndarray, target: np.ndarray) -> float:
        predicted, true = prediction == self.label, target == self.label
        both = int(predicted.sum()) + int(true.sum())
        return 2 * int((predicted & true).sum()) / both if both else 1.0


class HD95(VolumeMetric):
    """How far the surfaces of one label lie apart, in mm: the larger of the two directed 95th percentiles.

    A surface is the voxels of a region that touch one outside it by a face; the image's border is outside. Without a
    voxel of the label in either image it is 0; without one in just one of them it is the diagonal of the image, the
    worst there can be, so that a missed region does not leave the mean.

    Source: Huttenlocher, Klanderman and Rucklidge, "Comparing images using the Hausdorff distance", IEEE Trans. PAMI
    15, 1993, with the percentile of Taha and Hanbury, BMC Medical Imaging 15, 2015.

    Args:
        label: the value of the region's voxels.
    """

    unit = "mm"
    higher_is_better = False

    def __init__(self, *, label: int) -> None:
        self.label = label
        self.definition = (
            f"max of the 95th percentiles of the distances surface to surface, both ways, of label {label}; 0 where "
            "both are empty, the image's diagonal where one is"
        )

    def score(
        self, prediction: np.ndarray, target: np.ndarray, mask: np.ndarray | None, spacing_mm: Sequence[float]
    ) -> float:
        regions = [np.asarray(labels) == self.label for labels in (prediction, target)]
        if mask is not None:
            regions = [region & mask for region in regions]
        held = [bool(region.any()) for region in regions]
        if not any(held):
            return 0.0
        if not all(held):
            return float(np.linalg.norm(np.asarray(target.shape) * np.asarray(spacing_mm)))
        box = ndimage.find_objects((regions[0] | regions[1]).astype(np.uint8))[0]
        predicted, true = (_surface(region[box]) for region in regions)
        return max(_reach(predicted, true, spacing_mm), _reach(true, predicted, spacing_mm))


def _surface(region: np.ndarray) -> np.ndarray:
    return np.asarray(region & ~ndimage.binary_erosion(region))


def _reach(own: np.ndarray, other: np.ndarray, spacing_mm: Sequence[float]) -> float:
    """The 95th percentile of the distances from one surface to the other."""
    distance = ndimage.distance_transform_edt(~other, sampling=tuple(spacing_mm))
    return float(np.percentile(np.asarray(distance)[own], 95))
