"""Owns what is tried of networks: how each is made, fed and read, whatever its kind."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from medtrans.testing.patterns import Sides
from medtrans.testing.trial import Trial
from medtrans.testing.verdict import Broken

__all__ = ["Channels", "NetworkTrial", "total"]

Channels: TypeAlias = tuple[int, int]


@dataclass(frozen=True)
class NetworkTrial(Trial, ABC):
    """A network under trial.

    Args:
        patch_size: sides of the patch it is tried on; None takes about 16 voxels.
        channels: numbers of source and target channels it must work with; the first pair is used for most rules.
        unused: patterns (`heads.3.*`) of the trainable parameters that get no gradient, as its author knows.
    """

    patch_size: Sides | None = None
    channels: Sequence[Channels] = ((1, 1), (2, 3))
    unused: Sequence[str] = ()

    @abstractmethod
    def network(self, channels: Channels | None = None, sides: Sides | None = None) -> nn.Module:
        """The network, made for these channels and this patch, from the global random state."""

    @abstractmethod
    def arguments(self, sides: Sides, channels: Channels | None = None, batch: int = 2, fill: str = "noise") -> Any:
        """What `forward` takes, as a tuple; noise differs between the cases of a batch."""

    @abstractmethod
    def tensors(self, output: Any) -> tuple[Tensor, ...]:
        """The tensors of an output that training compares with something, finest first.

        Raises:
            Broken: the output is none that the contract knows.
        """

    @abstractmethod
    def ddp_loss(self, network: nn.Module) -> Tensor:
        """What one rank minimises in a step on random images."""

    @cached_property
    def sides(self) -> Sides:
        """Sides of the patch that the network is tried on."""
        return self.patch_size or (16, 16, 16)

    def seeded(self, seed: int = 0, channels: Channels | None = None, sides: Sides | None = None) -> nn.Module:
        """The network made under a seed."""
        torch.manual_seed(seed)
        network = self.network(channels, sides or self.sides)
        if not isinstance(network, nn.Module):
            raise Broken(f"it makes {type(network).__name__}, expected a torch.nn.Module")
        return network

    def output(self, network: nn.Module, sides: Sides, **settings: Any) -> tuple[Tensor, ...]:
        """What the network gives for `arguments`."""
        return self.tensors(network(*self.arguments(sides, **settings)))


def total(tensors: Sequence[Tensor]) -> Tensor:
    """A scalar that depends on every voxel, and on none in the same way as on another."""
    summed = tensors[0].new_zeros(())
    for tensor in tensors:
        wave = torch.linspace(0.5, 1.5, tensor.numel()).view_as(tensor)
        summed = summed + ((tensor - 0.3).square() * wave).mean() + (tensor * wave).mean()
    return summed
