"""The losses of a segmentation: overlap of classes, and the likelihood of each voxel's class."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from medtrans.builtin.losses import full_precision
from medtrans.types import Loss, LossInputs, batch_mean

__all__ = ["CrossEntropy", "SoftDice", "classes_of"]


def classes_of(target: Tensor, logits: Tensor) -> Tensor:
    """The class of each voxel, `(b, i, j, k)`, from a target `(b, 1, i, j, k)` with class n of N at n / N.

    The logits are `(b, N + 1, i, j, k)`, the background first.
    """
    return (target[:, 0] * (logits.shape[1] - 1)).round().long()


class SoftDice(Loss):
    """1 - Dice of the classes' probabilities, the mean over classes without the background.

    Intersections and sizes are summed over the whole batch, over all ranks, so that a patch without a class does not
    count as a class that was missed.

    Source: Milletari, Navab and Ahmadi, "V-Net" (3DV 2016), section 3, which squares the probabilities of the
    denominator; here they are not squared.

    Args:
        smooth: added to numerator and denominator, as a share of the batch's voxels.
    """

    def __init__(self, *, smooth: Annotated[float, Field(gt=0)] = 1e-5) -> None:
        super().__init__()
        self.smooth = smooth

    def forward(self, inputs: LossInputs) -> Tensor:
        """The mean over classes, from the logits of the finest level."""
        logits = full_precision(inputs.prediction[0])
        shares = logits.softmax(1)[:, 1:]
        reference = functional.one_hot(classes_of(inputs.target[0], logits), logits.shape[1]).movedim(-1, 1)[:, 1:]
        counted = None if inputs.valid is None else inputs.valid[:, 0]
        terms = []
        for share, true in zip(shares.unbind(1), reference.to(shares.dtype).unbind(1), strict=True):
            both, sizes = batch_mean(share * true, counted), batch_mean(share + true, counted)
            terms.append(1 - (2 * both + self.smooth) / (sizes + self.smooth))
        return torch.stack(terms).mean()


class CrossEntropy(Loss):
    """The mean over voxels of -log of the probability that the network gives to the voxel's class."""

    def forward(self, inputs: LossInputs) -> Tensor:
        """The mean over all voxels of the finest level, over all ranks."""
        logits = full_precision(inputs.prediction[0])
        terms = functional.cross_entropy(logits, classes_of(inputs.target[0], logits), reduction="none")
        return batch_mean(terms, None if inputs.valid is None else inputs.valid[:, 0])

    def averages_cases(self, valid: Tensor | None) -> bool:
        """Where all voxels of all cases count."""
        return valid is None
