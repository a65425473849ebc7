"""A loss that compares edges."""

from __future__ import annotations

import torch
from torch import Tensor

from medtrans import Component, Loss, hookimpl
from medtrans.types import LossInputs, batch_mean

__all__ = ["Edges"]

PLUGIN_API = "1.0"


class Edges(Loss):
    """The mean absolute difference between the gradients of prediction and target, at level 0.

    Args:
        squared: compare squared differences instead.
    """

    def __init__(self, *, squared: bool = False) -> None:
        super().__init__()
        self.squared = squared

    def forward(self, inputs: LossInputs) -> Tensor:
        """The generator's term; a mean over the batch is `batch_mean`, over all ranks."""
        prediction, target = inputs.prediction[0].float(), inputs.target[0].detach().float()
        terms = []
        for axis in (2, 3, 4):
            difference = prediction.diff(dim=axis) - target.diff(dim=axis)
            terms.append(batch_mean(difference.square() if self.squared else difference.abs()))
        return torch.stack(terms).mean()


@hookimpl
def medtrans_losses() -> list[Component]:
    """What this plugin offers; `trial` tells `medtrans plugins test` what its author claims."""
    return [Component("edges", Edges, trial={"symmetric": True})]
