"""The training step as it is plainly written: what the `paired` method is measured against.

The generator passes over the source twice, once for each update. The perceptual loss keeps the graph of all views at
once. The reference style also passes each slice through VGG three times, in the three intensities that subtracting
ImageNet's three means from one gray channel makes, as the code released with arXiv 2412.00575 does. Otherwise networks,
losses, weights and optimisers are those of the config, and the discriminator is frozen while the generator learns.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.harness.subject import Subject
from benchmarks.harness.timing import Clock, Spread, alternated
from medtrans.builtin.losses.perceptual_25d import SLICED_AXIS, Perceptual25D
from medtrans.builtin.methods.base import TrainedNetwork, backward, discriminate, generate
from medtrans.builtin.methods.paired import PairedMethod
from medtrans.types import Batch, LossInputs, Pyramid, pyramid

__all__ = ["PlainStep", "compare_steps"]


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
                shown = generate(method.generator.network, batch.source)
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
        inputs = _inputs(batch, generate(method.generator.network, batch.source), step)
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
    real = discriminate(network, inputs.target, inputs.source)
    return replace(inputs, real=real, fake=discriminate(network, inputs.prediction, inputs.source))


def _updated(player: TrainedNetwork, total: Tensor, clip_norm: float | None) -> Tensor:
    player.clear()
    backward(total, [player])
    player.update(clip_norm)
    return total.detach()


def compare_steps(subject: Subject, repeats: int) -> dict[str, Any]:
    """Time the config's step, the naive and the reference-style step; ratios above 1 say how much dearer theirs are.

    Args:
        subject: the config.
        repeats: turns that count; one comes before.
    """
    if type(subject.method) is not PairedMethod:
        return {"left_out": f"the plain steps are those of the method paired, not of {_name(subject)}"}
    if subject.experiment.config.train.accumulate > 1:
        return {"left_out": "the plain steps do not accumulate; set train.accumulate=1"}
    steps: dict[str, Any] = {"step": subject.another_method()}
    for name, three_copies in (("naive", False), ("reference", True)):
        other = subject.another_method()
        if isinstance(other, PairedMethod):
            steps[name] = PlainStep(other, three_copies=three_copies)
    with subject.batches() as batches:
        batch = next(batches)
    for one in steps.values():
        one.training_step(batch, 0)
    clock = Clock(subject.device)
    processor: dict[str, list[float]] = {name: [] for name in steps}

    def timed(name: str) -> Callable[[], float]:
        return lambda: _timed(steps[name].training_step, batch, clock, processor[name])

    seconds = alternated({name: timed(name) for name in steps}, repeats)
    found: dict[str, Any] = {"seconds": {name: Spread.of(several).as_data() for name, several in seconds.items()}}
    found["ratios"] = _ratios(seconds)
    if subject.device.type == "cpu":
        found["ratios_of_processor_time"] = _ratios(processor)
    return found


def _timed(take: Callable[[Batch, int], object], batch: Batch, clock: Clock, processor: list[float]) -> float:
    before = time.process_time()
    seconds = clock.of(lambda: take(batch, 1))
    processor.append(time.process_time() - before)
    return seconds


def _ratios(seconds: dict[str, list[float]]) -> dict[str, Any]:
    """Of each turn, what the others took for each second of ours."""
    return {
        name: Spread.of_ratios(several, seconds["step"]).as_data()
        for name, several in seconds.items()
        if name != "step"
    }


def _name(subject: Subject) -> str:
    return subject.experiment.slots["method",].found.name.removeprefix("builtin:")
