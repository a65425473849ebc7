"""Saving memory: blocks of a network that are computed again in the backward pass instead of being remembered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

__all__ = ["has_memory_blocks", "recompute_blocks"]


def has_memory_blocks(network: nn.Module) -> bool:
    """Whether a network says which of its modules `recompute_blocks` may compute again."""
    return hasattr(network, "memory_blocks")


def recompute_blocks(network: nn.Module) -> None:
    """Have a network keep only the inputs of its blocks for the backward pass; nothing where it does not name any.

    A network names them by a method `memory_blocks() -> Iterable[nn.Module]`: modules, none inside another, whose
    output follows from their inputs, parameters, buffers and torch's random state, and that do not write into their
    inputs. Values, gradients, buffers and the keys of the state are those of the network as it was; where no gradient
    is asked for, nothing is computed twice.

    Args:
        network: changed in place.
    """
    named: Any = getattr(network, "memory_blocks", tuple)
    for block in tuple(named()):
        # A class rather than a replaced `forward`: a copy of the network then computes its own blocks again.
        block.__class__ = _recomputing(type(block))  # type: ignore[arg-type]  # mypy takes a class for no hashable


@cache
def _recomputing(kind: type[nn.Module]) -> type[nn.Module]:
    def forward(self: nn.Module, *inputs: Tensor) -> Any:
        if not torch.is_grad_enabled():
            return kind.forward(self, *inputs)
        return checkpoint(_Twice(self, kind), *inputs, use_reentrant=False)

    return type(kind.__name__, (kind,), {"forward": forward, "__module__": kind.__module__, "__doc__": kind.__doc__})


class _Twice:
    """A block's forward that, called again, begins with the buffers of the first call and leaves today's alone.

    Spectral norm and batch norm move their buffers on each call in training.
    """

    def __init__(self, block: nn.Module, kind: type[nn.Module]) -> None:
        self.block, self.kind = block, kind
        self.begun = {name: buffer.detach().clone() for name, buffer in block.named_buffers()}
        self.again = False

    def __call__(self, *inputs: Tensor) -> Any:
        if not self.again:
            self.again = True
            return self.kind.forward(self.block, *inputs)
        with _buffers(self.block, {name: buffer.clone() for name, buffer in self.begun.items()}):
            return self.kind.forward(self.block, *inputs)


@contextmanager
def _buffers(block: nn.Module, others: Mapping[str, Tensor]) -> Iterator[None]:
    """The block with other buffers, which it may write into."""
    places = {name: (block.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2]) for name in others}
    own = {name: block.get_buffer(name) for name in others}
    try:
        for name, (module, leaf) in places.items():
            setattr(module, leaf, others[name])
        yield
    finally:
        for name, (module, leaf) in places.items():
            setattr(module, leaf, own[name])
