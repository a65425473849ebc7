"""The 3D perceptual loss: whole patches compared by features of a frozen network of medical scans."""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from medtrans.types import Loss, LossInputs, batch_mean
from medtrans_monai.medical_features import MedicalFeatures

__all__ = ["Perceptual3D"]

_LEAST_SPREAD = 1e-3
"""Of a target in [0, 1]: one that is flatter is not stretched to more."""


class Perceptual3D(Loss):
    """The mean absolute difference of MedicalNet's features, at level 0, averaged over its five resolutions.

    The features are those of ResNet-10 as trained on 23 sets of CT and MR scans (Chen et al. 2019, "Med3D",
    arXiv 1904.00625; code under MIT), in 3D where `perceptual_25d` looks at slices. Each channel is a scan of its own.
    Like the scans that the network learned from, patches have mean 0 and deviation 1: those of the target, for the
    prediction too, so that a prediction of another brightness or contrast is told from the target. MONAI's
    `PerceptualLoss` standardises each by its own numbers, compares the last features alone and fetches weights itself.

    Args:
        weights: path of MedicalNet's `resnet_10_23dataset.pth`; `random` (not perceptual) to try things out.

    Raises:
        ConfigError: there is no such file.
        SetupError: it cannot be read or is of another network.
    """

    def __init__(self, *, weights: str) -> None:
        super().__init__()
        self.features = MedicalFeatures(weights)
        if weights == "random":
            logging.getLogger("medtrans").warning(
                "perceptual_3d: weights: random compares features of an untrained network: it trains, but it is not "
                "perceptual; give the path of MedicalNet's resnet_10_23dataset.pth"
            )

    def averages_cases(self, valid: Tensor | None) -> bool:
        """Each case is compared with its own target."""
        return True

    def forward(self, inputs: LossInputs) -> Tensor:
        """The generator's term."""
        prediction, target = inputs.prediction[0].flatten(0, 1), inputs.target[0].detach().flatten(0, 1)
        with torch.autocast(prediction.device.type, enabled=False):
            dtype = next(self.features.parameters()).dtype
            prediction, target = prediction.to(dtype), target.to(dtype)
            spread, mean = torch.std_mean(target, dim=(1, 2, 3), keepdim=True)
            spread = spread.clamp(min=_LEAST_SPREAD)
            with torch.no_grad():
                wanted = self.features(((target - mean) / spread).unsqueeze(1))
            found = self.features(((prediction - mean) / spread).unsqueeze(1))
            terms = [batch_mean((mine - theirs).abs()) for mine, theirs in zip(found, wanted, strict=True)]
        return torch.stack(terms).mean()
