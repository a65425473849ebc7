"""The edge term of Ea-GAN: how far the prediction's edges are from the target's."""

from __future__ import annotations

from torch import Tensor

from medtrans.types import Loss, LossInputs, batch_mean
from medtrans_eagan.sobel import edges

__all__ = ["EdgeLoss"]


class EdgeLoss(Loss):
    """The mean absolute difference of Sobel edge maps (Yu et al., IEEE TMI 38(7), 2019, doi 10.1109/TMI.2019.2895894).

    Intensities in [0, 1] are brought to [-1, 1] first, since the map saturates: a step over half of the range already
    counts as almost the strongest edge. Only the finest level of a prediction with several counts. As published its
    weight rises from 0 in the first epoch by 5 an epoch to 100, which a config writes as
    `weight: {start: 0, end: 100, steps: <20 epochs>, every: epoch}`.
    """

    def averages_cases(self, valid: Tensor | None) -> bool:
        """Each case's edges are compared with its own target's."""
        return True

    def forward(self, inputs: LossInputs) -> Tensor:
        """The generator's term, at level 0."""
        target = edges(2 * inputs.target[0].detach() - 1)
        return batch_mean((edges(2 * inputs.prediction[0] - 1) - target).abs())
