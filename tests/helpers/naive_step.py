"""Owns a paired step without any saving, to compare the real one with: same function, all of the graph at once."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medtrans.builtin.losses.perceptual_25d import SLICED_AXIS, Perceptual25D
from medtrans.types import Batch, LossInputs, batch_mean, pyramid

__all__ = ["AllViewsAtOnce", "NaivePair"]


class AllViewsAtOnce(Perceptual25D):
    """The perceptual loss with the slices of all views in one graph."""

    def forward(self, inputs: LossInputs) -> Tensor:
        terms = []
        for view in self.views:
            slices = [
                volume[0].flatten(0, 1).movedim(SLICED_AXIS[view], 1).flatten(0, 1).unsqueeze(1)
                for volume in (inputs.prediction, inputs.target)
            ]
            found, wanted = (self.trunk(self.normalised(each)) for each in slices)
            terms.append(
                torch.stack(
                    [batch_mean((f - w).abs().mean(dim=(1, 2, 3))) for f, w in zip(found, wanted, strict=True)]
                ).mean()
            )
        return torch.stack(terms).mean()


class NaivePair:
    """Two networks and their optimisers: each update runs the generator and the discriminator anew.

    Args:
        generator: gives levels.
        discriminator: judges them.
        losses: by name, with their weights.
        rate: of Adam.
    """

    def __init__(
        self, generator: nn.Module, discriminator: nn.Module, losses: dict[str, tuple[nn.Module, float]], rate: float
    ) -> None:
        self.generator, self.discriminator, self.losses = generator, discriminator, losses
        self.optimizers = [torch.optim.Adam(each.parameters(), rate, fused=True) for each in (generator, discriminator)]
        self.gradients: dict[str, list[Tensor]] = {}

    def step(self, batch: Batch, step: int) -> None:
        """The discriminator's update, then the generator's."""
        for phase in ("discriminator", "generator"):
            prediction = self.generator(batch.source)
            source, target = (pyramid(image, len(prediction)) for image in (batch.source, batch.target))
            if phase == "discriminator":
                prediction = tuple(level.detach() for level in prediction)
            real, fake = self.discriminator(target, source), self.discriminator(prediction, source)
            inputs = LossInputs(source, target, prediction, None, real, fake, step, phase)
            if phase == "generator":
                total = sum(weight * loss(inputs) for loss, weight in self.losses.values())
                network, optimizer = self.generator, self.optimizers[0]
            else:
                terms = [loss for loss, _ in self.losses.values() if getattr(loss, "adversarial", False)]
                total = sum(loss.discriminator_loss(inputs) for loss in terms)
                network, optimizer = self.discriminator, self.optimizers[1]
            for each in self.optimizers:
                each.zero_grad()
            total.backward()
            self.gradients[phase] = [parameter.grad.clone() for parameter in network.parameters()]
            optimizer.step()
