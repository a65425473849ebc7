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
    """A subclass whose forward is checkpointed; cached, so that blocks of one class stay of one class."""

    def forward(self: nn.Module, *inputs: Tensor) -> Any:
        if not torch.is_grad_enabled():
            return kind.forward(self, *inputs)
        # torch calls it a second time in the backward pass, with its random state as it was (dropout repeats itself).
        return checkpoint(_BlockForward(self, kind), *inputs, use_reentrant=False)

    return type(kind.__name__, (kind,), {"forward": forward, "__module__": kind.__module__, "__doc__": kind.__doc__})


class _BlockForward:
    """A block's forward that, called again, begins with the buffers of the first call and leaves today's alone.

    Spectral norm and batch norm move their buffers on each call in training: computed from moved buffers the second
    output, and so the gradient, would differ from the first, and each step would move them twice.
    """

    def __init__(self, block: nn.Module, kind: type[nn.Module]) -> None:
        self.block, self.kind = block, kind
        self.first_buffers = {name: buffer.detach().clone() for name, buffer in block.named_buffers()}
        self.called = False

    def __call__(self, *inputs: Tensor) -> Any:
        if not self.called:
            self.called = True
            return self.kind.forward(self.block, *inputs)
        # Clones again: a graph that is kept (retain_graph) is gone through more than once.
        with _buffers(self.block, {name: buffer.clone() for name, buffer in self.first_buffers.items()}):
            return self.kind.forward(self.block, *inputs)


@contextmanager
def _buffers(block: nn.Module, replaced: Mapping[str, Tensor]) -> Iterator[None]:
    """The block with other buffers, which it may write into; its own come back whatever happens."""
    own = {name: block.get_buffer(name) for name in replaced}

    def put(buffers: Mapping[str, Tensor]) -> None:
        for name, buffer in buffers.items():
            module, _, leaf = name.rpartition(".")
            setattr(block.get_submodule(module), leaf, buffer)

    try:
        put(replaced)
        yield
    finally:
        put(own)
