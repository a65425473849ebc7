"""The order of a network's features in memory: channels last, where convolutions are quicker so."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

__all__ = ["in_channels_last"]


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
