"""What a training step hands to losses under trial, in one process and in two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from medtrans.testing.rules import Broken
from medtrans.testing.samples import Sides, pattern
from medtrans.testing.trial import Trial
from medtrans.testing.two_ranks import on_two_ranks
from medtrans.types import DiscriminatorOutput, LossInputs, pyramid

__all__ = ["LossTrial", "judged", "means_the_same_on_two_ranks", "opinion", "undecided"]

_SCALES = 2  # logit maps of the discriminator that adversarial losses are tried with


@dataclass(frozen=True)
class LossTrial(Trial):
    """A loss under trial.

    Args:
        patch_size: sides of the patch.
        levels: levels of the prediction it must work with.
        at_identity: the value where prediction and target are equal and a discriminator of two scales gives logits of
            0; "unknown" where there is no such value.
        symmetric: whether prediction and target may change places.
        prediction_channels: of the prediction where it has other channels than the target, such as scores of classes.
    """

    kind: ClassVar[str] = "loss"

    patch_size: Sides = (16, 16, 16)
    levels: Sequence[int] = (1, 3)
    at_identity: float | Literal["unknown"] = 0.0
    symmetric: bool = False
    prediction_channels: int | None = None

    def loss(self, levels: int | None = None) -> nn.Module:
        """The loss, made for so many levels."""
        made: nn.Module = self.make(levels=levels or self.levels[0])
        if not isinstance(made, nn.Module):
            raise Broken(f"it makes {type(made).__name__}, expected a torch.nn.Module such as medtrans.Loss")
        return made

    def inputs(
        self,
        *,
        levels: int | None = None,
        sides: Sides | None = None,
        batch: int = 2,
        channels: int = 1,
        prediction: str = "noise",
        target: str = "noise",
        phase: Literal["generator", "discriminator"] = "generator",
        masked: bool = True,
    ) -> LossInputs:
        """What a training step would hand over, with a gradient to the prediction in phase "generator"."""
        sides, levels = sides or self.patch_size, levels or self.levels[0]
        guessed = pattern(prediction, batch, self.prediction_channels or channels, sides, seed=1)
        if phase == "generator":
            guessed.requires_grad_()
        true = pattern(target, batch, channels, sides, seed=2)
        mask = torch.ones(batch, 1, *sides) if masked else None
        inputs = LossInputs(
            source=pyramid(pattern("noise", batch, channels, sides, seed=3), levels),
            target=pyramid(true, levels),
            prediction=pyramid(guessed, levels),
            mask=mask,
            real=None,
            fake=None,
            step=0,
            phase=phase,
        )
        return judged(inputs)


def judged(inputs: LossInputs) -> LossInputs:
    """The inputs with what a small fixed discriminator says of target and prediction, as training joins them."""
    with torch.set_grad_enabled(inputs.phase == "discriminator"):
        real = opinion(inputs.target[0])
    fake = opinion(inputs.prediction[0])
    if inputs.phase == "discriminator":
        for output in (real, fake):
            for logit in output.logits:
                logit.requires_grad_()
    return replace(inputs, real=real, fake=fake)


def opinion(image: Tensor) -> DiscriminatorOutput:
    """Logits and features at two scales that depend on every voxel."""
    levels = [level.mean(dim=1, keepdim=True) for level in pyramid(image, _SCALES)]
    return DiscriminatorOutput(
        tuple(2 * level - 0.5 for level in levels), tuple((level.square(), level + 0.1) for level in levels)
    )


def undecided(inputs: LossInputs) -> LossInputs:
    """The inputs with a discriminator that cannot tell target and prediction apart: logits of 0."""
    real, fake = opinion(inputs.target[0]), opinion(inputs.prediction[0])
    return replace(
        inputs,
        real=DiscriminatorOutput(tuple(logit.detach() * 0 for logit in real.logits), real.features).detach(),
        fake=DiscriminatorOutput(tuple(logit * 0 for logit in fake.logits), fake.features),
    )


def means_the_same_on_two_ranks(trial: LossTrial) -> None:
    """Half of the batch on each rank, the ranks' gradients averaged: what one rank with the whole batch has."""
    adversarial = bool(getattr(trial.loss(), "adversarial", False))
    halves = on_two_ranks(trial, _gradient_of_half)
    for phase in ("generator", *(("discriminator",) if adversarial else ())):
        whole = _gradient(trial, phase, slice(0, 2))
        found = [(one + other) / 2 for one, other in zip(halves[0][phase], halves[1][phase], strict=True)]
        scale = max(max(map(abs, whole)), 1e-6)
        if any(abs(one - other) > 1e-3 * scale for one, other in zip(found, whole, strict=True)):
            raise Broken(
                f"in phase {phase} two ranks with half a batch each train differently from one with the whole "
                "batch; take means over the batch by medtrans.types.batch_mean"
            )


def _gradient_of_half(trial: LossTrial, rank: int) -> dict[str, list[float]]:
    return {phase: _gradient(trial, phase, slice(rank, rank + 1)) for phase in ("generator", "discriminator")}


def _gradient(trial: LossTrial, phase: str, part: slice) -> list[float]:
    """The gradient of a weight at each 4096th of the patch that prediction or logits are multiplied by."""
    loss, inputs = trial.loss(), trial.inputs()
    scale = torch.ones(trial.patch_size, requires_grad=True)
    shift = torch.zeros(1, requires_grad=True)
    guessed = (inputs.prediction[0].detach() * scale + shift)[part]
    mask = torch.zeros(2, 1, *trial.patch_size)
    mask[0] = 1.0  # unlike shares of mask, which a mean on each rank alone would weigh alike
    mask[1, :, : trial.patch_size[0] // 3 + 1] = 1.0
    levels = len(inputs.prediction)
    here = replace(
        inputs,
        source=tuple(level[part] for level in inputs.source),
        target=tuple(level[part] for level in inputs.target),
        prediction=pyramid(guessed if phase == "generator" else guessed.detach(), levels),
        mask=mask[part],
        phase="generator" if phase == "generator" else "discriminator",
    )
    if phase == "generator":
        value = loss(judged(here))
    else:
        own = getattr(loss, "discriminator_loss", None)
        fake, real = opinion(guessed), opinion(here.target[0] * scale + shift)
        value = None if own is None else own(replace(here, real=real, fake=fake))
    if value is None or not value.requires_grad:
        return [0.0]
    value.backward()
    grads = torch.cat([one.grad.flatten() for one in (scale, shift) if one.grad is not None])
    return [float(number) for number in grads[:: max(1, len(grads) // 500)]]
