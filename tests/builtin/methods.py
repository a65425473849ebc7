"""What a method is handed by the engine, for tests of methods, and its weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from medtrans import Parts
from medtrans.plugins.optimizers import Adam


def parts_of(**changed: Any) -> Parts:
    """One source and one target, constant learning rates, Adam."""
    usual = {
        "make_discriminator": None,
        "make_optimizer": lambda params, _role: Adam(lr=1e-3).make(params),
        "learning_rate_factor": lambda _step, _role: 1.0,
        "source_channels": 1,
        "target_channels": 1,
        "epoch_steps": 10,
        "accumulate": 1,
    }
    return Parts(**{**usual, **changed})


def parameters_of(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in network.named_parameters()}


def same(before: dict[str, Tensor], after: dict[str, Tensor]) -> bool:
    return all(torch.equal(before[name], after[name]) for name in before)
