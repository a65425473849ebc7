"""MONAI's losses as medtrans' losses: which images or logits each gets, always in full precision.

Each class is MONAI's own with MONAI's own options. Images are compared at the finest level of a prediction alone, and
without regard to a mask. Means are over the batch of a rank; ranks with batches of one size agree with one that has
all.
"""

from __future__ import annotations

import torch
from monai import losses
from torch import Tensor

from medtrans import ConfigError
from medtrans.types import DiscriminatorOutput, LossInputs

__all__ = ["GlobalMutualInformationLoss", "LocalNormalizedCrossCorrelationLoss", "PatchAdversarialLoss", "SSIMLoss"]


class SSIMLoss(losses.SSIMLoss):
    """MONAI's SSIM loss: 1 minus the structural similarity in 3D (Wang et al., IEEE TIP 13(4), 2004).

    Windows stay inside the patch, so that each side must be at least a window's.
    """

    def forward(self, inputs: LossInputs) -> Tensor:  # type: ignore[override]  # medtrans' contract
        """The generator's term, at level 0."""
        prediction, target = _finest(inputs)
        with _full_precision(prediction):
            return super().forward(prediction, target)


class LocalNormalizedCrossCorrelationLoss(losses.LocalNormalizedCrossCorrelationLoss):
    """MONAI's local normalised cross-correlation, from 0 down to -1 where every neighbourhood agrees up to scale.

    Needs images of one channel.
    """

    def forward(self, inputs: LossInputs) -> Tensor:  # type: ignore[override]  # medtrans' contract
        """The generator's term, at level 0."""
        prediction, target = _finest(inputs)
        with _full_precision(prediction):
            return super().forward(prediction, target)


class GlobalMutualInformationLoss(losses.GlobalMutualInformationLoss):
    """MONAI's mutual information, negated: lower where the prediction's intensities tell more of the target's."""

    def forward(self, inputs: LossInputs) -> Tensor:  # type: ignore[override]  # medtrans' contract
        """The generator's term, at level 0."""
        prediction, target = _finest(inputs)
        with _full_precision(prediction):
            return super().forward(prediction, target)


class PatchAdversarialLoss(losses.PatchAdversarialLoss):
    """MONAI's adversarial loss on maps of logits, averaged over the maps.

    Attributes:
        adversarial: it needs a discriminator.
    """

    adversarial = True

    def forward(self, inputs: LossInputs) -> Tensor:  # type: ignore[override]  # medtrans' contract
        """The generator's term."""
        return self.against(inputs.fake, target_is_real=True, for_discriminator=False)

    def discriminator_loss(self, inputs: LossInputs) -> Tensor:
        """The discriminator's term, the mean of that on generated and on real images."""
        fake = self.against(inputs.fake, target_is_real=False, for_discriminator=True)
        return (fake + self.against(inputs.real, target_is_real=True, for_discriminator=True)) / 2

    def against(self, judged: DiscriminatorOutput | None, *, target_is_real: bool, for_discriminator: bool) -> Tensor:
        """MONAI's own call, on all maps of logits."""
        if judged is None:
            raise ConfigError(f"{type(self).__name__} needs a discriminator and the run has none; set `discriminator`")
        logits = list(judged.logits)
        with _full_precision(logits[0]):
            loss = super().forward(logits, target_is_real=target_is_real, for_discriminator=for_discriminator)
        return torch.as_tensor(loss)


def _finest(inputs: LossInputs) -> tuple[Tensor, Tensor]:
    return inputs.prediction[0], inputs.target[0].detach()


def _full_precision(like: Tensor) -> torch.autocast:
    """No half precision inside: windows and ratios of MONAI's losses lose their digits in it."""
    return torch.autocast(like.device.type, enabled=False)
