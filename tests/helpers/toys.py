"""A method and a trainer of a few toy steps, for tests of what happens around them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn

from medtrans import Method, PairedMethod, Parts
from medtrans.plugins.interfaces import WeightedLoss
from medtrans.training.trainer import Trainer
from medtrans.types import Loss


def toy_method(
    generator: Callable[[int, int], nn.Module],
    losses: dict[str, tuple[Loss, float]],
    *,
    discriminator: Callable[[int, int], nn.Module] | None = None,
    optimizer: Callable[..., torch.optim.Optimizer],
    **more: Any,
) -> PairedMethod:
    """A paired method of one source and one target channel, set up on the processor."""
    made = PairedMethod(
        Parts(
            make_generator=generator,
            make_discriminator=discriminator,
            losses={name: WeightedLoss(loss, weight) for name, (loss, weight) in losses.items()},
            make_optimizer=lambda parameters, _role: optimizer(parameters),
            learning_rate_factor=lambda _step, _role: 1.0,
            source_channels=1,
            target_channels=1,
            epoch_steps=10,
            accumulate=1,
            **more,
        )
    )
    made.setup(Fabric(accelerator="cpu", devices=1))
    return made


def toy_trainer(method: Method, folder: Path, *, steps: int = 6, every: int = 2, **more: Any) -> Trainer:
    settings: dict[str, Any] = {
        "seed": 3, "steps": steps, "validate_every": every, "checkpoint_every": every, "keep": 2, "best": "psnr",
        "checkpoints": folder, "config_hash": "c0ffee",
    }  # fmt: skip
    return Trainer(method=method, **settings | more)
