"""The adversarial term of Ea-GAN: least squares to labels that may be soft."""

from __future__ import annotations

import torch
from torch import Tensor

from medtrans import ConfigError
from medtrans.types import DiscriminatorOutput, Loss, LossInputs, batch_mean

__all__ = ["SoftLabelLSGAN"]

_REAL, _SOFT_REAL = 1.0, (0.7, 1.2)
_FAKE, _SOFT_FAKE = 0.0, (0.0, 0.3)


class SoftLabelLSGAN(Loss):
    """Least squares to a label for real and one for generated (Mao et al. 2017), as Ea-GAN uses and scales it.

    The generator's term is the mean squared distance of the prediction's logits to the label of real images, not
    halved; the discriminator's is half of the sum of both distances. Soft labels are drawn for each patch, uniformly
    from 0.7 to 1.2 for real and from 0 to 0.3 for generated, anew for every term. Several maps of logits are averaged.

    Args:
        soft_labels: draw labels instead of 1 and 0.
        legacy_labels: draw each label once and keep it as long as the logits' size does not change, as the published
            code does; needs `soft_labels`.

    Raises:
        ConfigError: `legacy_labels` without `soft_labels`; there is no discriminator.
    """

    adversarial = True

    def __init__(self, *, soft_labels: bool = False, legacy_labels: bool = False) -> None:
        super().__init__()
        if legacy_labels and not soft_labels:
            raise ConfigError("legacy_labels keeps soft labels as they were first drawn: set soft_labels: true too")
        self.soft_labels = soft_labels
        # Drawn now, when the run's seed decides, so that a resumed run has the same labels without keeping any.
        self.kept_seed = int(torch.randint(2**31, ())) if legacy_labels else None

    def averages_cases(self, valid: Tensor | None) -> bool:
        """Labels that are drawn follow the batch."""
        return not self.soft_labels

    def forward(self, inputs: LossInputs) -> Tensor:
        """The generator's term."""
        return self.distance(inputs.fake, real=True)

    def discriminator_loss(self, inputs: LossInputs) -> Tensor:
        """The discriminator's term."""
        return (self.distance(inputs.fake, real=False) + self.distance(inputs.real, real=True)) / 2

    def distance(self, judged: DiscriminatorOutput | None, *, real: bool) -> Tensor:
        """The mean squared distance to the label of real or of generated images."""
        if judged is None:
            raise ConfigError(f"{type(self).__name__} needs a discriminator and the run has none; set `discriminator`")
        terms = [batch_mean((logits - self.labels(logits, real=real)).square()) for logits in judged.logits]
        return torch.stack(terms).mean()

    def labels(self, logits: Tensor, *, real: bool) -> Tensor:
        """The label of each patch, `(b, 1, 1, 1, 1)`."""
        shape = (len(logits), 1, 1, 1, 1)
        if not self.soft_labels:
            return logits.new_full(shape, _REAL if real else _FAKE)
        low, high = _SOFT_REAL if real else _SOFT_FAKE
        if self.kept_seed is None:
            drawn = torch.rand(shape, device=logits.device)
        else:
            drawn = torch.rand(shape, generator=torch.Generator().manual_seed(self.kept_seed + real))
        return (low + (high - low) * drawn).to(logits)
