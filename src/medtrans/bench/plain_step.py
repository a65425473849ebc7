"""Owns the training step as it is plainly written: what the `paired` method is measured against.

The generator passes over the source twice, once for each update. The perceptual loss keeps the graph of all views at
once. The reference style also passes each slice through VGG three times, in the three intensities that subtracting
ImageNet's three means from one gray channel makes, as the code released with arXiv 2412.00575 does. Otherwise networks,
losses, weights and optimisers are those of the config, and the discriminator is frozen while the generator learns.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from medtrans.builtin.losses.perceptual_25d import SLICED_AXIS, Perceptual25D
from medtrans.builtin.methods.paired import PairedMethod
from medtrans.builtin.methods.trained_network import TrainedNetwork, backward, judged, predicted
from medtrans.types import Batch, LossInputs, Pyramid, pyramid

__all__ = ["PlainStep"]


class PlainStep:
    """Trains a `paired` method's networks by the plain step.

    Args:
        method: set up; its own step is not used.
        three_copies: whether VGG sees three intensities of every slice, as in the released code.
    """

    def __init__(self, method: PairedMethod, *, three_copies: bool) -> None:
        self.method = method
        self.losses = {
            name: _PlainPerceptual(loss, three_copies=three_copies) if isinstance(loss, Perceptual25D) else loss
            for name, loss in method.losses.items()
        }

    def training_step(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Update discriminator and generator once each."""
        method = self.method
        players = [player for player in (method.generator, method.discriminator) if player is not None]
        for player in players:
            player.begin(step)
        values: dict[str, Tensor] = {}
        if method.discriminator is not None:
            with torch.no_grad():
                shown = predicted(method.generator.network, batch.source)
            inputs = _inputs(batch, shown, step)
            judge = method.discriminator
            inputs = _judged(inputs, judge.network)
            terms = method.discriminator_losses(replace(inputs, phase="discriminator"))
            if terms:
                values["discriminator"] = _updated(judge, torch.stack(list(terms.values())).sum(), method.clip_norm)
        values["generator"] = self._update_generator(batch, step)
        if method.average is not None:
            method.average.update(method.generator.bare)
        return values

    def _update_generator(self, batch: Batch, step: int) -> Tensor:
        method = self.method
        inputs = _inputs(batch, predicted(method.generator.network, batch.source), step)
        if method.discriminator is None:
            return self._learned(inputs, step)
        with method.discriminator.frozen() as judge:
            return self._learned(_judged(inputs, judge), step)

    def _learned(self, inputs: LossInputs, step: int) -> Tensor:
        parts = self.method.parts
        terms = [
            loss(inputs) * parts.losses[name].weight_at(step, parts.epoch_steps) for name, loss in self.losses.items()
        ]
        return _updated(self.method.generator, torch.stack(terms).sum(), self.method.clip_norm)


class _PlainPerceptual:
    """The 2.5D perceptual loss as one graph over all slices of all views."""

    def __init__(self, loss: Perceptual25D, *, three_copies: bool) -> None:
        self.loss, self.three_copies = loss, three_copies

    def __call__(self, inputs: LossInputs) -> Tensor:
        prediction, target = (images[0].flatten(0, 1) for images in (inputs.prediction, inputs.target))
        return torch.stack([self._view(prediction, target, SLICED_AXIS[view]) for view in self.loss.views]).mean()

    def _view(self, prediction: Tensor, target: Tensor, axis: int) -> Tensor:
        found, wanted = (self.loss.trunk(self._images(images, axis)) for images in (prediction, target))
        return torch.stack([(f.float() - w.float()).abs().mean() for f, w in zip(found, wanted, strict=True)]).mean()

    def _images(self, volumes: Tensor, axis: int) -> Tensor:
        slices = volumes.movedim(axis, 1).flatten(0, 1).unsqueeze(1)
        images: Tensor = self.loss.normalised(slices)
        if not self.three_copies:
            return images
        return images.flatten(0, 1).unsqueeze(1).expand(-1, 3, -1, -1)


def _inputs(batch: Batch, prediction: Pyramid, step: int) -> LossInputs:
    source, target = (pyramid(image, len(prediction)) for image in (batch.source, batch.target))
    return LossInputs(source, target, prediction, batch.mask, None, None, step, "generator")


def _judged(inputs: LossInputs, judge: nn.Module) -> LossInputs:
    network: Any = judge
    real = judged(network, inputs.target, inputs.source)
    return replace(inputs, real=real, fake=judged(network, inputs.prediction, inputs.source))


def _updated(player: TrainedNetwork, total: Tensor, clip_norm: float | None) -> Tensor:
    player.clear()
    backward(total, [player])
    player.update(clip_norm)
    return total.detach()
