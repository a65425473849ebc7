"""What networks and patches take at the least, found by passing shapes through before any memory is taken."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from medtrans.config.schema import RunConfig
from medtrans.errors import MedtransError, SetupError
from medtrans.plugins.input_size import multiple_of, padded_sides
from medtrans.utils.memory import out_of_memory, require_memory

__all__ = ["require_sizes"]


_FLOAT = 4  # bytes
_OF_WEIGHTS = 2  # weights and their gradients; what an optimiser keeps comes to it


def require_sizes(config: RunConfig, make: Callable[[], Sequence[nn.Module]]) -> None:
    """Refuse what no machine like this one could hold: a system that runs out of memory ends processes.

    It counts what is there for certain: one batch of patches, weights with their gradients, and what the generator
    keeps for its backward pass; a network that cannot be made without memory is not looked at.

    Args:
        config: of the run.
        make: makes generator and, where there is one, discriminator.

    Raises:
        SetupError: with what is too large.
    """
    train, patch, channels = config.train, config.patch.size, len(config.source) + len(config.target)
    at_once = _FLOAT * channels * train.batch * train.accumulate
    batch = f"{train.batch * train.accumulate} patches of {_shown(patch)} voxels"
    require_memory(at_once * math.prod(patch), f"patch.size and train.batch: {batch}", remedy="Lower one of them")
    if config.inference.window is not None:
        window = _FLOAT * len(config.source) * math.prod(config.inference.window)
        require_memory(window, f"inference.window: {_shown(config.inference.window)} voxels", remedy="Lower it")
    try:
        networks = _without_memory(make)
    except (SetupError, RuntimeError, ValueError) as error:
        if not out_of_memory(error):
            return
        raise SetupError(
            "generator, discriminator: the options make networks whose weights no memory holds; lower what sets their "
            "width or depth"
        ) from error
    if networks is None:
        return
    free = torch.cuda.mem_get_info()[0] if torch.cuda.is_available() else None
    counts = sum(parameter.numel() for network in networks for parameter in network.parameters())
    weights = _FLOAT * _OF_WEIGHTS * counts
    lower = "Lower what sets their width or depth in generator.options and discriminator.options"
    require_memory(weights, f"generator, discriminator: {counts:,} weights with gradients", free=free, remedy=lower)
    sides = padded_sides(patch, multiple_of(networks[0]))
    if sides != patch:
        batch = (
            f"the generator takes sides that divide by {multiple_of(networks[0])}: {batch} padded to {_shown(sides)}"
        )
        require_memory(at_once * math.prod(sides), batch, remedy="Lower generator.options that set its depth")
    if train.memory == "normal" and train.compile is None:
        kept = _kept_for_backward(networks[0], (train.batch, len(config.source), *sides))
        needed = weights + (kept // 2 if "16" in train.precision or free is not None else kept)
        what = f"a training step on {train.batch} patches of {_shown(sides)} voxels"
        remedy = "Lower patch.size, train.batch (train.accumulate makes up for it) or the generator's width, or set "
        require_memory(needed, what, free=free, remedy=f"{remedy}train.memory=low")


def _without_memory(make: Callable[[], Sequence[nn.Module]]) -> Sequence[nn.Module] | None:
    """Networks whose tensors have a shape alone; None where they cannot be made so."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of weights that are not copied
        try:
            return make()
        except MedtransError as error:
            if out_of_memory(error):
                raise
            return None  # what is wrong will be said by whoever makes them in earnest


def _kept_for_backward(network: nn.Module, shape: Sequence[int]) -> int:
    """Bytes that a forward pass in training keeps in float32; 0 where shapes alone do not tell."""
    own = {id(parameter) for parameter in network.parameters()}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        if id(tensor) not in own:
            kept[tensor.untyped_storage()._cdata] = tensor  # noqa: SLF001 -- what views of one tensor have in common
        return tensor

    try:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), torch.random.fork_rng(devices=[]):
            network.train()(torch.empty(tuple(shape), device="meta"))
    except (NotImplementedError, RuntimeError, TypeError, ValueError):
        return 0
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def _shown(sides: Sequence[int]) -> str:
    return " x ".join(map(str, sides))
