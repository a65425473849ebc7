"""Weights and images that do not depend on names or on a random generator, so that networks can be compared."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

__all__ = ["fill", "fraction", "parameters", "state_beside_parameters"]


def fraction(*shape: int) -> Tensor:
    """Numbers in [-0.5, 0.5): the fraction of `sin(12.9898 n) 43758.5453` less a half, n from 1, row by row."""
    scaled = torch.sin(12.9898 * torch.arange(1, math.prod(shape) + 1, dtype=torch.float64)) * 43758.5453
    return (scaled - scaled.floor() - 0.5).reshape(shape)


def fill(network: nn.Module) -> None:
    """Set norms to the identity, other vectors to a tenth of `fraction`, and all else to unit gain."""
    norms = (nn.BatchNorm3d, nn.InstanceNorm3d)
    with torch.no_grad():
        for module in network.modules():
            for parameter in module.parameters(recurse=False):
                if isinstance(module, norms):
                    parameter.fill_(1.0 if parameter is module.weight else 0.0)
                elif parameter.ndim == 1:
                    parameter.copy_(0.1 * fraction(*parameter.shape))
                else:
                    gain = math.sqrt(12 / (parameter.numel() / parameter.shape[0]))
                    parameter.copy_(fraction(*parameter.shape) * gain)


def parameters(network: nn.Module) -> int:
    """How many numbers a network learns."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def state_beside_parameters(network: nn.Module) -> int:
    """How many numbers a checkpoint holds that are not learnt."""
    learnt = {name for name, _ in network.named_parameters()}
    return sum(tensor.numel() for name, tensor in network.state_dict().items() if name not in learnt)
