"""The making of a run's parts from a checked config: preprocessing, networks, losses, method."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, cast

import torch
from torch import nn
from torch.optim import Optimizer

from medtrans.config.experiment import Experiment
from medtrans.config.schema import TrainSettings
from medtrans.plugins.input_size import multiple_of, padded_sides
from medtrans.plugins.interfaces import Method, Parts, WeightedLoss
from medtrans.training.activation_checkpointing import recompute_blocks
from medtrans.training.compile import compiled
from medtrans.training.memory_format import in_channels_last
from medtrans.types import as_pyramid
from medtrans.utils.seeds import derived_seed

__all__ = ["make_method"]


def make_method(experiment: Experiment, *, training_cases: int | None, ranks: int = 1) -> Method:
    """The method with freshly initialised networks, the same for the same seed.

    Args:
        experiment: the checked config.
        training_cases: how many cases a turn over the training set has; None makes a method that only translates,
            without losses (whose weight files prediction does not need).
        ranks: that train together, each with a batch of its own.
    """
    config = experiment.config
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(config.seed, "networks"))
        losses = {} if training_cases is None else _losses(experiment)
        epoch_steps = _epoch_steps(config.train, (training_cases or 1) * config.patch.per_volume, ranks)
        schedules = {role: _slot_of(experiment, "schedule", role) for role in ("generator", "discriminator")}
        parts = Parts(
            make_generator=lambda source, target: _arranged(
                _generator(experiment, source, target, initialise=training_cases is not None), config.train
            ),
            make_discriminator=_discriminator_maker(experiment),
            losses=losses,
            make_optimizer=lambda params, role: _optimizer(experiment, params, role),
            learning_rate_factor=lambda step, role: schedules[role].factor(step, config.train.steps, epoch_steps),
            source_channels=len(config.source),
            target_channels=len(config.target),
            epoch_steps=epoch_steps,
            accumulate=config.train.accumulate,
            compiled=None if config.train.compile is None else partial(compiled, mode=config.train.compile),
        )
        return cast("Method", experiment.build("method", parts=parts))


def _epoch_steps(settings: TrainSettings, patches: int, ranks: int) -> int:
    return settings.epoch_steps or math.ceil(patches / (settings.batch * settings.accumulate * ranks))


def _generator(experiment: Experiment, in_channels: int, out_channels: int, *, initialise: bool) -> nn.Module:
    facts = {
        "in_channels": in_channels,
        "out_channels": out_channels,
        "patch_size": experiment.config.patch.size,
        "initialise": initialise,
    }
    return cast("nn.Module", experiment.build("generator", **facts))


def _discriminator_maker(experiment: Experiment) -> Any:
    if experiment.config.discriminator is None:
        return None
    patch_size = experiment.config.patch.size
    return lambda source, target: _arranged(
        experiment.build("discriminator", source_channels=source, target_channels=target, patch_size=patch_size),
        experiment.config.train,
    )


def _arranged(network: nn.Module, settings: TrainSettings) -> nn.Module:
    """The network with features in the order, and blocks recomputed, as the config asks."""
    in_channels_last(network, settings.channels_last)
    if settings.memory == "low":
        recompute_blocks(network)
    return network


def _losses(experiment: Experiment) -> Mapping[str, WeightedLoss]:
    levels = _levels(experiment)
    return {
        name: WeightedLoss(experiment.build("losses", name, levels=levels), slot.weight)
        for name, slot in experiment.config.losses.items()
    }


def _levels(experiment: Experiment) -> int:
    """How many levels the generator gives, found by passing shapes through it without computing."""
    config = experiment.config
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        network = _generator(experiment, len(config.source), len(config.target), initialise=False).eval()
        sides = padded_sides(config.patch.size, multiple_of(network))
        try:
            given = network.to("meta")(torch.empty(1, len(config.source), *sides, device="meta"))
        except (NotImplementedError, RuntimeError):
            # A network may do what shapes alone cannot follow: then it computes once.
            network = _generator(experiment, len(config.source), len(config.target), initialise=False).eval()
            given = network(torch.zeros(1, len(config.source), *sides))
    return len(as_pyramid(given))


def _slot_of(experiment: Experiment, key: str, role: str) -> Any:
    path = ("train", key, role) if ("train", key, role) in experiment.slots else ("train", key)
    return experiment.build(*path)


def _optimizer(experiment: Experiment, params: Iterator[nn.Parameter], role: str) -> Optimizer:
    # A fused optimiser takes the scale of 16-mixed off by itself, which Fabric's clipping of gradients refuses.
    fused = experiment.config.train.precision != "16-mixed"
    return cast("Optimizer", _slot_of(experiment, "optimizer", role).make(params, fused=fused))
