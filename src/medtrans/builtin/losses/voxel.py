"""The voxel-wise distances between prediction and target, summed over levels."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from medtrans import DataError
from medtrans.builtin.losses import full_precision, weights_of_levels
from medtrans.types import Loss, LossInputs, batch_mean, pyramid

__all__ = ["L1", "L2", "VoxelLoss"]


class VoxelLoss(Loss):
    """A mean over voxels, weighted and summed over levels; subclasses say of what.

    Ha et al. (arXiv 2412.00575) sum over the levels with weights of 1 and do not divide by their number.

    Args:
        levels: levels of the prediction.
        level_weights: a weight for each level, finest first; null means 1 each.
        masked: count only voxels inside the mask.

    Raises:
        ValueError: `level_weights` of another length than `levels`; inputs with another number of levels.
    """

    def __init__(self, levels: int, *, level_weights: tuple[float, ...] | None = None, masked: bool = False) -> None:
        super().__init__()
        self.levels, self.masked = levels, masked
        self.level_weights = weights_of_levels(level_weights, levels, f"{type(self).__name__}: the prediction has")

    @abstractmethod
    def distance(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The distance at each voxel of one level, shaped as `prediction`."""

    def forward(self, inputs: LossInputs) -> Tensor:
        """The weighted sum over levels.

        Raises:
            DataError: `masked`, but the batch has no mask.
        """
        if len(inputs.prediction) != self.levels or len(inputs.target) != self.levels:
            raise ValueError(
                f"{type(self).__name__}: made for {self.levels} levels, found {len(inputs.prediction)} of the "
                f"prediction and {len(inputs.target)} of the target"
            )
        terms = [
            weight * batch_mean(self.distance(full_precision(prediction), full_precision(target.detach())), mask)
            for weight, prediction, target, mask in zip(
                self.level_weights, inputs.prediction, inputs.target, self.masks(inputs), strict=True
            )
        ]
        return torch.stack(terms).sum()

    def averages_cases(self, valid: Tensor | None) -> bool:
        """Not inside a mask, where cases with more voxels count more."""
        return not self.masked and valid is None

    def masks(self, inputs: LossInputs) -> tuple[Tensor | None, ...]:
        """Which voxels count at each level, None where all do."""
        if not self.masked:
            return (None,) * self.levels if inputs.valid is None else pyramid(inputs.valid, self.levels)
        if inputs.mask is None:
            raise DataError(
                f"{type(self).__name__}: masked is true but the cohort has no masks; give each case an image named "
                "'mask' or set masked: false"
            )
        return pyramid(inputs.mask, self.levels)


class L1(VoxelLoss):
    """The mean absolute difference at each level, weighted and summed (Ha et al., arXiv 2412.00575)."""

    def distance(self, prediction: Tensor, target: Tensor) -> Tensor:
        return (prediction - target).abs()


class L2(VoxelLoss):
    """The mean squared difference at each level, weighted and summed."""

    def distance(self, prediction: Tensor, target: Tensor) -> Tensor:
        return (prediction - target).square()
