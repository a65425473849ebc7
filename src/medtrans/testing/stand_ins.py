"""Owns the small networks and losses that methods are tried with."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from medtrans.types import DiscriminatorOutput, Loss, LossInputs, Pyramid, batch_mean

__all__ = ["LeastSquares", "SmallDiscriminator", "SmallGenerator", "VoxelDifference"]


class SmallGenerator(nn.Module):
    """Two convolutions that keep the sides."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv3d(in_channels, 4, kernel_size=3, padding=1), nn.Tanh(), nn.Conv3d(4, out_channels, kernel_size=1)
        )

    def forward(self, source: Tensor) -> Tensor:
        """An image of the target for one of the source."""
        image: Tensor = self.body(source)
        return image


class SmallDiscriminator(nn.Module):
    """Two convolutions that judge each voxel of a candidate beside its source."""

    def __init__(self, source_channels: int, target_channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv3d(source_channels + target_channels, 4, kernel_size=3, padding=1), nn.LeakyReLU(0.2)
        )
        self.head = nn.Conv3d(4, 1, kernel_size=1)

    def forward(self, candidate: Pyramid, source: Pyramid) -> DiscriminatorOutput:
        """One logit map at full resolution."""
        features = self.body(torch.cat((candidate[0], source[0]), dim=1))
        return DiscriminatorOutput((self.head(features),), ((features,),))


class VoxelDifference(Loss):
    """The mean absolute difference at level 0."""

    def forward(self, inputs: LossInputs) -> Tensor:
        """The generator's term."""
        return batch_mean((inputs.prediction[0] - inputs.target[0].detach()).abs())


class LeastSquares(Loss):
    """Least squares to 1 for real and 0 for generated."""

    adversarial: ClassVar[bool] = True

    def forward(self, inputs: LossInputs) -> Tensor:
        """The generator's term; 0 without a discriminator."""
        if inputs.fake is None:
            return inputs.prediction[0].new_zeros(())
        return batch_mean((inputs.fake.logits[0] - 1).square())

    def discriminator_loss(self, inputs: LossInputs) -> Tensor | None:
        """The discriminator's term."""
        if inputs.real is None or inputs.fake is None:
            return None
        return batch_mean((inputs.real.logits[0] - 1).square()) + batch_mean(inputs.fake.logits[0].square())
