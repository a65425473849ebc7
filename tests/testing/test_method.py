"""The kit finds each rule that a method breaks, and nothing else."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from medtrans import Method, Parts
from medtrans.testing.method import METHOD_RULES
from medtrans.testing.trial import SHARED_RULES
from medtrans.types import Batch, LossInputs, as_pyramid
from tests.testing.broken import Breaks, after, altered, contract


class Sound(Method):
    """A generator alone, trained on the losses that need no discriminator."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.losses = {name: one for name, one in parts.losses.items() if not getattr(one.module, "adversarial", False)}
        self.bare = parts.make_generator(parts.source_channels, parts.target_channels)
        self.network: Any = self.bare
        self.optimizer = parts.make_optimizer(self.bare.parameters(), "generator")
        self.rate = self.optimizer.param_groups[0]["lr"]
        self.fabric: Any = None

    def networks(self) -> dict[str, nn.Module]:
        return {"generator": self.bare}

    def setup(self, fabric: Any) -> None:
        self.fabric = fabric
        self.network, self.optimizer = fabric.setup(self.bare, self.optimizer)

    def training_step(self, batch: Batch, step: int) -> dict[str, Tensor]:
        self.optimizer.param_groups[0]["lr"] = self.rate * self.parts.learning_rate_factor(step, "generator")
        self.optimizer.zero_grad()
        prediction = as_pyramid(self.network(batch.source))
        inputs = LossInputs((batch.source,), (batch.target,), prediction, batch.mask, None, None, step, "generator")
        total = torch.stack([one.module(inputs) for one in self.losses.values()]).sum()
        self.fabric.backward(total)
        self.optimizer.step()
        return {"generator": total.detach()}

    def translate(self, source: Tensor) -> Tensor:
        with torch.no_grad(), self.fabric.autocast():
            return as_pyramid(self.bare(source))[0].float().clamp(0, 1)

    def state_dict(self) -> dict[str, Any]:
        return {"optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.optimizer.load_state_dict(state["optimizer"])


class Idle(Sound):  # shows a network that it does not train
    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        self.second = parts.make_generator(parts.source_channels, parts.target_channels)

    def networks(self) -> dict[str, nn.Module]:
        return {"generator": self.bare, "second": self.second}


class OwnRate(Sound):  # keeps to a rate of its own
    def training_step(self, batch: Batch, step: int) -> dict[str, Tensor]:
        self.parts = replace(self.parts, learning_rate_factor=lambda step, role: 1.0)
        return super().training_step(batch, step)


class Drawing(Sound):  # draws from Python's global generator
    def training_step(self, batch: Batch, step: int) -> dict[str, Tensor]:
        random.random()
        return super().training_step(batch, step)


class Overwriting(Sound):  # changes its batch
    def training_step(self, batch: Batch, step: int) -> dict[str, Tensor]:
        values = super().training_step(batch, step)
        batch.source.zero_()
        return values


class NoAccumulation(Sound):  # trains on nothing where batches are to be summed up
    def training_step(self, batch: Batch, step: int) -> dict[str, Tensor]:
        if self.parts.accumulate > 1:
            return {"generator": torch.zeros(())}
        return super().training_step(batch, step)


class NeedsADiscriminator(Sound):  # takes for granted what a config may leave out
    def setup(self, fabric: Any) -> None:
        super().setup(fabric)
        self.parts.make_discriminator(self.parts.source_channels, self.parts.target_channels)


class HalfPrecision(Sound):  # translates in whatever precision it trains in
    def translate(self, source: Tensor) -> Tensor:
        with torch.no_grad(), self.fabric.autocast():
            return as_pyramid(self.bare(source))[0].clamp(0, 1)


class RankBlind(Sound):  # trains each rank for itself
    def setup(self, fabric: Any) -> None:
        self.fabric = fabric
        _, self.optimizer = fabric.setup(nn.Linear(1, 1), self.optimizer)


BREAKING = [
    Breaks("says what pairs it wants", altered(Sound, pairing="triplets"), "found 'triplets'"),
    Breaks("names its networks", altered(Sound, networks=lambda self: {"the generator": self.bare}), "since it names"),
    Breaks(
        "tells finite scalars",
        after(Sound, training_step=lambda values: {name: one.clone().requires_grad_() for name, one in values.items()}),
        "carries its graph",
    ),
    Breaks("trains its networks", Idle, "do not change the network 'second'"),
    Breaks("follows the schedule", OwnRate, "moves although"),
    Breaks("translates", after(Sound, translate=lambda image: image + 1), "expected [0, 1]"),
    Breaks("resumes exactly", altered(Sound, load_state_dict=lambda self, state: None), "a resumed run differs"),
    Breaks("trains alike under one seed", Drawing, "the global state of random"),
    Breaks("leaves its batch as it was", Overwriting, "changes its batch"),
    Breaks("accumulates", NoAccumulation, "trains nothing"),
    Breaks("works without a discriminator, or says why not", NeedsADiscriminator, "raise medtrans.ConfigError"),
    Breaks("works under bfloat16 autocast", HalfPrecision, "gives no float32"),
    Breaks("stays alike on two ranks", RankBlind, "differs between them"),
]


test_what_is_sound_breaks_no_rule, test_the_broken_rule_is_named_and_no_other, test_every_rule_is_broken = contract(
    "method", [Sound], BREAKING, METHOD_RULES, but=SHARED_RULES
)
