"""A run's method from its checked config: networks with their first weights, losses, optimisers, and how torch runs."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Literal, cast

import torch
import yaml
from torch import Tensor, nn
from torch.optim import Optimizer

from medtrans.config.experiment import Experiment
from medtrans.config.schema import InitialiseSettings, TrainSettings
from medtrans.errors import ConfigError, SetupError
from medtrans.plugins.input_size import multiple_of, padded_sides
from medtrans.plugins.interfaces import Method, Parts, WeightedLoss
from medtrans.runs import checkpoint
from medtrans.runs.folder import RunFolder
from medtrans.training.activation_checkpointing import recompute_blocks
from medtrans.training.sizes import require_sizes
from medtrans.types import as_pyramid
from medtrans.utils.memory import memory_faults
from medtrans.utils.seeds import derived_seed

__all__ = ["check_compiler", "in_channels_last", "initialise_from", "make_method", "warn_of_jumps"]


_log = logging.getLogger("medtrans")


def make_method(experiment: Experiment, *, training_cases: int | None, ranks: int = 1) -> Method:
    """The method with freshly initialised networks, the same for the same seed.

    Args:
        experiment: the checked config.
        training_cases: how many cases a turn over the training set has; None makes a method that only translates,
            without losses (whose weight files prediction does not need).
        ranks: that train together, each with a batch of its own.

    Raises:
        MedtransError: a part refuses its options.
        SetupError: patches or networks are larger than memory.
        TrainingError: memory ran out.
    """
    config = experiment.config
    if training_cases is not None:
        require_sizes(config, lambda: _untrained(experiment))
    with (
        torch.random.fork_rng(devices=[]),
        memory_faults("making the networks", "lower what sets their width or depth"),
    ):
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
            compiled=None if config.train.compile is None else partial(_compiled, mode=config.train.compile),
        )
        return cast("Method", experiment.build("method", parts=parts))


def warn_of_jumps(folder: RunFolder, experiment: Experiment, *, training_cases: int, ranks: int) -> None:
    """Say where a learning rate jumps because a run goes on to another length than it was begun with.

    Args:
        folder: of the run, whose config is still the one before.
        experiment: what it goes on with.
        training_cases: as of `make_method`.
        ranks: likewise.
    """
    config, newest = experiment.config, checkpoint.newest(folder.checkpoints)
    if newest is None:
        return
    # Checkpoints of earlier versions do not say how long the run was to be.
    before = newest.facts.get("steps") or yaml.safe_load(folder.config.read_text(encoding="utf-8"))["train"]["steps"]
    epoch_steps = _epoch_steps(config.train, training_cases * config.patch.per_volume, ranks)
    jumps: dict[tuple[float, float], list[str]] = {}
    for role in ("generator",) if config.discriminator is None else ("generator", "discriminator"):
        schedule = _slot_of(experiment, "schedule", role)
        old, new = (schedule.factor(newest.step, steps, epoch_steps) for steps in (before, config.train.steps))
        if not math.isclose(old, new, rel_tol=1e-6, abs_tol=1e-9):
            jumps.setdefault((old, new), []).append(role)
    for (old, new), roles in jumps.items():
        _log.warning(
            "train.steps: %d -> %d changes the schedule of the %s: step %d has %.4g of the optimiser's learning rate, "
            "and had %.4g under %d steps. To go on without a jump, train a new run from these weights at the rate you "
            "want (train.initialise_from); linear with a length, and multistep, do not follow train.steps",
            before, config.train.steps, " and the ".join(roles), newest.step + 1, new, old, before,
        )  # fmt: skip


def _compiled(network: nn.Module, mode: str) -> nn.Module:
    return cast("nn.Module", torch.compile(network, mode=mode))


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


def _untrained(experiment: Experiment) -> list[nn.Module]:
    config = experiment.config
    generator = _generator(experiment, len(config.source), len(config.target), initialise=False)
    make = _discriminator_maker(experiment)
    return [generator] if make is None else [generator, make(len(config.source), len(config.target))]


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


def initialise_from(method: Method, settings: InitialiseSettings) -> None:
    """Copy the tensors that are equal in name and shape from a run's best weights, or its newest.

    Raises:
        ConfigError: the run has no weights, a network is not there, or no tensor of it fits.
    """
    folder = RunFolder.existing(settings.run)
    found = checkpoint.best(folder.checkpoints) or checkpoint.newest(folder.checkpoints)
    if found is None or found.step == 0:
        raise ConfigError(f"train.initialise_from.run: {folder.path} has no checkpoint of trained weights")
    weights, networks = found.networks(), method.networks()
    for name in settings.networks:
        if name not in weights or name not in networks:
            raise ConfigError(
                f"train.initialise_from.networks: '{name}' is not in both runs "
                f"(there: {', '.join(weights)}; here: {', '.join(networks)})"
            )
        own = networks[name].state_dict()
        fitting = {key: value for key, value in weights[name].items() if key in own and own[key].shape == value.shape}
        if not fitting:
            raise ConfigError(
                f"train.initialise_from: no tensor of '{name}' fits by name and shape; check the networks"
            )
        networks[name].load_state_dict({**own, **fitting})
        if f"{name}_average" in networks:  # a running average begins at the new weights
            networks[f"{name}_average"].load_state_dict(networks[name].state_dict())
        _log.info("%s: %d of %d tensors taken from step %d", name, len(fitting), len(own), found.step)


def in_channels_last(network: nn.Module, wanted: Literal["auto"] | bool) -> None:
    """Have the 3D convolutions of a network read and write features whose channels lie beside each other in memory.

    Weights, and so checkpoints, stay as they are; only features are moved, which between convolutions keep their order.

    Args:
        network: changed in place.
        wanted: always, never, or `auto`: on a CPU in float32, for networks whose attribute `channels_last_on_cpu` says
            that it pays. Others may ask for a `view` that features in this order do not have.
    """
    if wanted is False or (wanted == "auto" and not getattr(network, "channels_last_on_cpu", False)):
        return
    ordered = _ordered if wanted is True else _ordered_on_cpu
    for module in network.modules():
        if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
            module.register_forward_pre_hook(partial(_before, ordered))
            module.register_forward_hook(partial(_behind, ordered))


def _ordered(features: Tensor) -> Tensor:
    return features.contiguous(memory_format=torch.channels_last_3d) if features.dim() == 5 else features


def _ordered_on_cpu(features: Tensor) -> Tensor:
    return _ordered(features) if features.device.type == "cpu" and features.dtype == torch.float32 else features


def _before(ordered: Callable[[Tensor], Tensor], _module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return (ordered(inputs[0]), *inputs[1:]) if inputs else inputs


def _behind(ordered: Callable[[Tensor], Tensor], _module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
    # Where torch does without oneDNN, as for a source of one channel, the output is not in the order of the input.
    return ordered(output)


def check_compiler(device: torch.device) -> None:
    """Compile something tiny, so that a machine that cannot is known before the first step.

    Raises:
        SetupError: torch cannot compile for this device.
    """
    try:
        torch.compile(_increment)(torch.zeros(2, device=device))
    except Exception as error:  # what is missing shows in errors of torch's own, of a compiler or of the system
        needs = "a C++ compiler such as g++" if device.type == "cpu" else "Triton and a C compiler"
        raise SetupError(
            f"train.compile: torch cannot compile for {device.type} on this machine ({_reason(error)}); it needs "
            f"{needs}. Install it, or set train.compile=null"
        ) from error


def _increment(values: torch.Tensor) -> torch.Tensor:
    return values + 1


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
