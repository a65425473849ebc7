"""The feature-matching loss: the discriminator's features of prediction and target shall be alike."""

from __future__ import annotations

import torch
from torch import Tensor

from medtrans import ConfigError
from medtrans.types import Loss, LossInputs, batch_mean

__all__ = ["FeatureMatching"]


class FeatureMatching(Loss):
    """The mean absolute difference of each of the discriminator's features, summed, divided by the number of scales.

    After pix2pixHD (Wang et al. 2018) as PTNet3D has it: the sum over a scale's features is not divided by their
    number. Any discriminator that hands out features will do. It has no term for the discriminator.

    Raises:
        ConfigError: in use, the run has no discriminator or one without features.
    """

    adversarial = True

    def averages_cases(self, valid: Tensor | None) -> bool:
        """Each case's features are compared with its own target's."""
        return True

    def forward(self, inputs: LossInputs) -> Tensor:
        real, fake = inputs.real, inputs.fake
        if real is None or fake is None or not any(fake.features):
            raise ConfigError(
                "feature_matching compares features of the discriminator and there are none; set `discriminator` to "
                "one that hands out features, such as ptnet3d:multiscale_patchgan, or take this loss out"
            )
        terms = [
            batch_mean((_full(mine) - _full(wanted).detach()).abs())
            for fakes, reals in zip(fake.features, real.features, strict=True)
            for mine, wanted in zip(fakes, reals, strict=True)
        ]
        return torch.stack(terms).sum() / len(fake.features)


def _full(feature: Tensor) -> Tensor:
    """At least float32: a mean over many voxels is wrong in 16 bits."""
    return feature if feature.dtype == torch.float64 else feature.float()
