"""Owns the making of a run's parts from a checked config: preprocessing, networks, losses, method, device."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from torch import nn
from torch.optim import Optimizer

from medtrans.components import Method, Metric, Parts, WeightedLoss
from medtrans.config import Experiment
from medtrans.errors import SetupError
from medtrans.evaluation import data_range_of
from medtrans.preprocess import Preprocessing
from medtrans.seeds import derived_seed
from medtrans.settings import TrainSettings
from medtrans.types import as_pyramid

__all__ = ["make_fabric", "make_method", "make_metrics", "make_preprocessing"]


def make_preprocessing(experiment: Experiment) -> Preprocessing:
    """The preprocessing of the config's sources and targets."""
    config = experiment.config
    scalings = {
        modality: experiment.build("preprocess", "intensity", modality) for modality in config.preprocess.intensity
    }
    return Preprocessing(
        config.source,
        config.target,
        scalings,
        spacing_mm=config.preprocess.spacing_mm,
        crop=config.preprocess.crop,
    )


def make_metrics(experiment: Experiment, preprocessing: Preprocessing) -> dict[str, dict[str, Metric]]:
    """By target, the metrics with that target's data range."""
    return {
        target: {
            key: experiment.build("metrics", key, data_range=data_range_of(preprocessing.scalings, target))
            for key in experiment.under("metrics")
        }
        for target in experiment.config.target
    }


def make_method(experiment: Experiment, *, training_cases: int | None) -> Method:
    """The method with freshly initialised networks, the same for the same seed.

    Args:
        experiment: the checked config.
        training_cases: how many cases a turn over the training set has; None makes a method that only translates,
            without losses (whose weight files prediction does not need).
    """
    config = experiment.config
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(config.seed, "networks"))
        losses = {} if training_cases is None else _losses(experiment)
        epoch_steps = _epoch_steps(config.train, (training_cases or 1) * config.patch.per_volume)
        schedules = {role: _slot_of(experiment, "schedule", role) for role in ("generator", "discriminator")}
        parts = Parts(
            make_generator=lambda source, target: _generator(experiment, source, target),
            make_discriminator=_discriminator_maker(experiment),
            losses=losses,
            make_optimizer=lambda params, role: _optimizer(experiment, params, role),
            learning_rate_factor=lambda step, role: schedules[role].factor(step, config.train.steps, epoch_steps),
            source_channels=len(config.source),
            target_channels=len(config.target),
            epoch_steps=epoch_steps,
            accumulate=config.train.accumulate,
        )
        return cast("Method", experiment.build("method", parts=parts))


def make_fabric(settings: TrainSettings) -> Fabric:
    """Lightning Fabric on a GPU where there is one, else on the CPU, in the precision of the config.

    Raises:
        SetupError: more than one device is asked for.
    """
    gpu = torch.cuda.is_available()
    precision = settings.precision
    if precision == "auto":
        precision = "bf16-mixed" if gpu and torch.cuda.is_bf16_supported() else "32-true"
    if settings.devices not in ("auto", 1):
        raise SetupError(f"train.devices: {settings.devices} devices are asked for; this version trains on one, set 1")
    return Fabric(accelerator="cuda" if gpu else "cpu", devices=1, precision=precision)


def _epoch_steps(settings: TrainSettings, patches: int) -> int:
    return settings.epoch_steps or math.ceil(patches / (settings.batch * settings.accumulate))


def _generator(experiment: Experiment, in_channels: int, out_channels: int) -> nn.Module:
    facts = {"in_channels": in_channels, "out_channels": out_channels, "patch_size": experiment.config.patch.size}
    return cast("nn.Module", experiment.build("generator", **facts))


def _discriminator_maker(experiment: Experiment) -> Any:
    if experiment.config.discriminator is None:
        return None
    patch_size = experiment.config.patch.size
    return lambda source, target: experiment.build(
        "discriminator", source_channels=source, target_channels=target, patch_size=patch_size
    )


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
        network = _generator(experiment, len(config.source), len(config.target)).eval()
        sides = padded_sides(config.patch.size, multiple_of(network))
        try:
            given = network.to("meta")(torch.empty(1, len(config.source), *sides, device="meta"))
        except (NotImplementedError, RuntimeError):
            # A network may do what shapes alone cannot follow: then it computes once.
            network = _generator(experiment, len(config.source), len(config.target)).eval()
            given = network(torch.zeros(1, len(config.source), *sides))
    return len(as_pyramid(given))


def multiple_of(network: nn.Module) -> tuple[int, int, int]:
    """What the sides of a network's input must divide by."""
    multiple = getattr(network, "multiple", 1)
    return (multiple,) * 3 if isinstance(multiple, int) else tuple(multiple)


def padded_sides(sides: tuple[int, ...], multiple: tuple[int, int, int]) -> tuple[int, ...]:
    """The sides rounded up to the multiple."""
    return tuple(math.ceil(side / step) * step for side, step in zip(sides, multiple, strict=True))


def _slot_of(experiment: Experiment, key: str, role: str) -> Any:
    path = ("train", key, role) if ("train", key, role) in experiment.slots else ("train", key)
    return experiment.build(*path)


def _optimizer(experiment: Experiment, params: Iterator[nn.Parameter], role: str) -> Optimizer:
    return cast("Optimizer", _slot_of(experiment, "optimizer", role).make(params))
