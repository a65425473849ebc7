"""Owns the rule that a loss means the same on two ranks as on one."""

from __future__ import annotations

from dataclasses import replace

import torch

from medtrans.testing.loss_trial import LossTrial, judged, opinion
from medtrans.testing.ranks import on_two_ranks
from medtrans.testing.verdict import Broken
from medtrans.types import pyramid

__all__ = ["means_the_same_on_two_ranks"]


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
