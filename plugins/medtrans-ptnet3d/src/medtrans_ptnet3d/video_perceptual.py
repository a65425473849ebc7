"""The video-perceptual loss: prediction and target compared by features of a frozen video network."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from torch import Tensor

from medtrans.types import Loss, LossInputs, batch_mean
from medtrans_ptnet3d.video_weights import trunk_from

__all__ = ["STAGE_WEIGHTS", "VideoPerceptual"]

STAGE_WEIGHTS = (1 / 16, 1 / 8, 1 / 4, 1.0)
"""Of the video network's four stages, first to last."""


class VideoPerceptual(Loss):
    """The mean absolute difference of R3D-18's features after each stage, weighted and summed (Zhang et al. 2022).

    Level 0 is taken for a video along its first axis, in [-1, 1] and, as in the original, neither resized nor
    normalised as the network's own videos; each channel is a gray video of its own. Unlike in the original, which
    leaves the network in training mode, it normalises by the numbers it was trained with.

    Args:
        weights: path of torchvision's `r3d_18` weights (Kinetics-400), `.safetensors` or what `torch.save` writes; null
            leaves the loss out, with a warning: its value is 0.

    Raises:
        ConfigError: there is no such file.
        SetupError: it cannot be read or is of another network.
    """

    def __init__(self, *, weights: Path | None = None) -> None:
        super().__init__()
        self.trunk = None if weights is None else trunk_from(weights)
        if weights is None:
            logging.getLogger("medtrans").warning(
                "video_perceptual: no weights are given, so this loss is 0 throughout; give the path of torchvision's "
                "r3d_18 weights as `weights`, or take the loss out"
            )

    def averages_cases(self, valid: Tensor | None) -> bool:
        """Each video is compared with its own target."""
        return True

    def forward(self, inputs: LossInputs) -> Tensor:
        prediction, target = inputs.prediction[0], inputs.target[0].detach()
        if self.trunk is None:
            return prediction.new_zeros(())
        with torch.no_grad():
            wanted = self.trunk(_video(target))
        found = self.trunk(_video(prediction))
        terms = [
            weight * batch_mean((_full(mine) - _full(theirs)).abs())
            for weight, mine, theirs in zip(STAGE_WEIGHTS, found, wanted, strict=True)
        ]
        return torch.stack(terms).sum()


def _video(image: Tensor) -> Tensor:
    """`(b, c, i, j, k)` in [0, 1] as gray videos `(b * c, 3, i, j, k)` in [-1, 1]."""
    return (image * 2 - 1).flatten(0, 1).unsqueeze(1).expand(-1, 3, -1, -1, -1)


def _full(feature: Tensor) -> Tensor:
    """At least float32: a mean over many voxels is wrong in 16 bits."""
    return feature if feature.dtype == torch.float64 else feature.float()
