"""The adversarial losses on logits of a discriminator, summed over its levels."""

from __future__ import annotations

from abc import abstractmethod
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from medtrans import ConfigError
from medtrans.builtin.losses import full_precision, weights_of_levels
from medtrans.types import Loss, LossInputs, batch_mean

__all__ = ["BCE", "LSGAN", "AdversarialLoss", "Relativistic"]


class AdversarialLoss(Loss):
    """A term for each logit map, weighted and summed; subclasses say which for either side.

    A discriminator may judge more or fewer levels than the generator writes: the sum is over its own. Means are over
    the batch and all voxels of a level.

    Args:
        level_weights: a weight for each logit map, finest first; null means 1 each.

    Raises:
        ValueError: `level_weights` of another length than the discriminator has logit maps.
        ConfigError: there is no discriminator.
    """

    adversarial = True

    def __init__(self, *, level_weights: tuple[float, ...] | None = None) -> None:
        super().__init__()
        self.level_weights = level_weights

    @abstractmethod
    def generator_term(self, real: Tensor, fake: Tensor) -> Tensor:
        """The scalar that the generator lowers, from the logits of one level."""

    @abstractmethod
    def discriminator_term(self, real: Tensor, fake: Tensor) -> Tensor:
        """The scalar that the discriminator lowers, from the logits of one level."""

    def forward(self, inputs: LossInputs) -> Tensor:
        """The generator's term; its gradient flows through the discriminator on the prediction."""
        return torch.stack([w * self.generator_term(real, fake) for w, real, fake in self.by_level(inputs)]).sum()

    def discriminator_loss(self, inputs: LossInputs) -> Tensor:
        """The discriminator's term."""
        return torch.stack([w * self.discriminator_term(real, fake) for w, real, fake in self.by_level(inputs)]).sum()

    def averages_cases(self, valid: Tensor | None) -> bool:
        """Each logit is judged by itself."""
        return True

    def by_level(self, inputs: LossInputs) -> list[tuple[float, Tensor, Tensor]]:
        """Weight, logits of the target and logits of the prediction, for each level."""
        name = type(self).__name__
        if inputs.real is None or inputs.fake is None:
            raise ConfigError(
                f"{name} needs a discriminator and the run has none; set `discriminator` or drop this loss"
            )
        real, fake = inputs.real.logits, inputs.fake.logits
        weights = weights_of_levels(self.level_weights, len(real), f"{name}: the discriminator judges")
        return [(w, full_precision(r), full_precision(f)) for w, r, f in zip(weights, real, fake, strict=True)]


class BCE(AdversarialLoss):
    """Binary cross-entropy against "all real" and "all generated" (Goodfellow et al. 2014, non-saturating)."""

    def generator_term(self, real: Tensor, fake: Tensor) -> Tensor:
        return batch_mean(called_real(fake))

    def discriminator_term(self, real: Tensor, fake: Tensor) -> Tensor:
        return batch_mean(called_real(real)) + batch_mean(called_fake(fake))


class LSGAN(AdversarialLoss):
    """Least squares to 1 for real and 0 for generated, halved (Mao et al. 2017, equation 9)."""

    def generator_term(self, real: Tensor, fake: Tensor) -> Tensor:
        return batch_mean((fake - 1).square()) / 2

    def discriminator_term(self, real: Tensor, fake: Tensor) -> Tensor:
        return (batch_mean((real - 1).square()) + batch_mean(fake.square())) / 2


class Relativistic(AdversarialLoss):
    """Is the real more real than the generated (Jolicoeur-Martineau 2018), voxel-wise (Ha et al., arXiv 2412.00575)?

    Unlike the released code of Ha et al., whose generator term depends on the target only, the gradient reaches the
    generator through both halves of the average form.

    Args:
        form: `average` compares each voxel's logit with the mean logit of the other image, as the paper does; `paired`
            compares the two images voxel by voxel.
        level_weights: a weight for each logit map, finest first; null means 1 each.
    """

    def __init__(
        self, *, form: Literal["average", "paired"] = "average", level_weights: tuple[float, ...] | None = None
    ) -> None:
        super().__init__(level_weights=level_weights)
        self.form = form

    def averages_cases(self, valid: Tensor | None) -> bool:
        """Not where logits are compared with a mean over the batch."""
        return self.form == "paired"

    def generator_term(self, real: Tensor, fake: Tensor) -> Tensor:
        # The generator wants what the discriminator must not say: the images change places.
        return self.discriminator_term(fake, real)

    def discriminator_term(self, real: Tensor, fake: Tensor) -> Tensor:
        if self.form == "paired":
            return batch_mean(called_real(real - fake))
        # The means are over the whole batch and all ranks, as the losses' own are: per rank they would be another loss.
        # Neither is detached: the gradient reaches the generator through both halves.
        above = called_real(real - batch_mean(fake))
        below = called_fake(fake - batch_mean(real))
        return (batch_mean(above) + batch_mean(below)) / 2


def called_real(logits: Tensor) -> Tensor:
    """Binary cross-entropy of each logit with the answer "real"; exact for logits of any size."""
    # -log(sigmoid(x)) = softplus(-x): written so, nothing overflows where the discriminator is sure.
    return functional.softplus(-logits)


def called_fake(logits: Tensor) -> Tensor:
    """Binary cross-entropy of each logit with the answer "generated"."""
    return functional.softplus(logits)
