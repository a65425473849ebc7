"""The numbers of one system: parameters, multiply-accumulates, and what a training step takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.harness.subject import random_weights
from benchmarks.harness.timing import peak_bytes
from benchmarks.methods.systems import System
from medtrans.config.experiment import Experiment
from medtrans.distributed.devices import single_device_fabric
from medtrans.plugins.input_size import common_multiple, multiple_of, padded_sides
from medtrans.plugins.interfaces import Method
from medtrans.training.build import make_method
from medtrans.types import Batch, as_pyramid, pyramid

COMMON = (48, 48, 48)
"""Sides of the patch at which every system takes a step on a CPU, one patch a step."""
LIMIT_S = 5.0
"""Steps are timed until so much time has passed, three at least and twenty at most."""


def sizes(system: System) -> dict[str, Any]:
    """Patch and batch, and of either network its parameters and multiply-accumulates for one patch, forward."""
    experiment = without_files(system)
    config = experiment.config
    source, target, patch = len(config.source), len(config.target), config.patch.size

    def generator() -> nn.Module:
        made: nn.Module = experiment.build("generator", in_channels=source, out_channels=target, patch_size=patch)
        return made

    def discriminator() -> nn.Module:
        made: nn.Module = experiment.build(
            "discriminator", source_channels=source, target_channels=target, patch_size=patch
        )
        return made

    sides = padded_sides(patch, multiple_of(generator()))
    output, macs = followed(generator, torch.empty(1, source, *sides))
    found = {
        "settings": system.settings,
        "patch": list(patch),
        "batch": config.train.batch,
        "generator": bare_name(experiment, "generator"),
        "generator_parameters": parameters(generator()),
        "generator_macs": macs,
    }
    if config.discriminator is not None:
        images = [pyramid(torch.empty(1, channels, *sides), len(as_pyramid(output))) for channels in (target, source)]
        found |= {
            "discriminator": bare_name(experiment, "discriminator"),
            "discriminator_parameters": parameters(discriminator()),
            "discriminator_macs": followed(discriminator, *images)[1],
        }
    return found


def step(system: System, *, common: bool) -> dict[str, float]:
    """Seconds and bytes of a whole training step, on the GPU where there is one, else on one thread of the CPU.

    Args:
        system: whose method, networks, losses and optimisers train on noise.
        common: one patch of `COMMON` rather than the config's own patch and batch.
    """
    overrides = ["train.batch=1", "train.accumulate=1", f"patch.size={list(COMMON)}"] if common else []
    experiment = without_files(system, overrides)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    fabric = single_device_fabric(experiment.config.train)
    before = 0 if fabric.device.type == "cuda" else peak_bytes(fabric.device)
    method = make_method(experiment, training_cases=1)
    method.setup(fabric)
    batch = noise(experiment, method).to(fabric.device)
    seconds: list[float] = []
    while len(seconds) < 4 or (sum(seconds) < LIMIT_S and len(seconds) < 20):
        begun = clock()
        method.training_step(batch, len(seconds))
        seconds.append(clock() - begun)
    return {"seconds": min(seconds[1:]), "bytes": peak_bytes(fabric.device) - before}


def noise(experiment: Experiment, method: Method) -> Batch:
    """A batch of the config's size in [0, 1]."""
    config = experiment.config
    count = config.train.batch * config.train.accumulate
    sides = padded_sides(config.patch.size, common_multiple(method.networks().values()))
    images = [torch.rand(count, channels, *sides) for channels in (len(config.source), len(config.target))]
    return Batch(images[0], images[1], torch.ones(count, 1, *sides), tuple(range(count)))


def without_files(system: System, overrides: list[str] | None = None) -> Experiment:
    """The checked config, its losses with random weights where they would read a file: these cost the same."""
    return system.experiment([*random_weights(system.experiment()), *(overrides or [])])


def followed(make: Callable[[], nn.Module], *inputs: Any) -> tuple[Any, int]:
    """A network's output and its multiply-accumulates: convolutions and matrix products, nothing else.

    Shapes are passed through it; where it cannot be followed by shapes alone, numbers are.
    """
    for device in ("meta", "cpu"):
        counter = FlopCounterMode(display=False)
        moved = [on(device, one) for one in inputs]
        try:
            network = make().to(device).eval()
            with torch.no_grad(), counter:
                output = network(*moved)
        except (NotImplementedError, RuntimeError):
            if device == "cpu":
                raise
        else:
            break
    return output, int(counter.get_total_flops()) // 2


def on(device: str, images: Any) -> Any:
    """A tensor, or each of several, on a device."""
    return images.to(device) if isinstance(images, Tensor) else tuple(on(device, one) for one in images)


def parameters(network: nn.Module) -> int:
    """Trainable numbers, each once."""
    return sum(one.numel() for one in network.parameters())


def bare_name(experiment: Experiment, kind: str) -> str:
    """What a config may write."""
    return experiment.slots[kind,].found.name.removeprefix("builtin:")


def clock() -> float:
    """Seconds: of this process on a CPU, since others may share it; of the wall behind a GPU."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()
