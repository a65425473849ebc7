"""Owns what losses are shown in full precision: a discriminator's output, how often it is right, and predictions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medtrans.types import DiscriminatorOutput, Pyramid, as_pyramid

__all__ = ["accuracy", "judged", "predicted"]


def judged(discriminator: nn.Module, candidate: Pyramid, source: Pyramid) -> DiscriminatorOutput:
    """What a discriminator says of a candidate, at least in float32."""
    output = discriminator(candidate, source)
    return DiscriminatorOutput(
        tuple(_full(logit) for logit in output.logits),
        tuple(tuple(_full(feature) for feature in scale) for scale in output.features),
    )


def accuracy(real: DiscriminatorOutput, fake: DiscriminatorOutput) -> Tensor:
    """Share of places at which the target looks more real to the discriminator than the prediction; 0.5 is guessing."""
    pairs = zip(real.logits, fake.logits, strict=True)
    shares = [(one > other).float().mean() + (one == other).float().mean() / 2 for one, other in pairs]
    return torch.stack(shares).mean()


def predicted(generator: nn.Module, source: Tensor) -> Pyramid:
    """The levels a generator gives for a source, at least in float32."""
    return tuple(_full(level) for level in as_pyramid(generator(source)))


def _full(tensor: Tensor) -> Tensor:
    """At least float32: losses are not computed in half precision."""
    return tensor.float() if tensor.itemsize < 4 else tensor
