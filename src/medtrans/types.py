"""The tensors that pass between parts: their axes, units and containers.

Axes and units, said once: image tensors are `(b, c, i, j, k)`, float32, in RAS+ voxel order (i grows to the
patient's right, j to anterior, k to superior); world coordinates are in mm; networks see intensities in [0, 1].
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Any, ClassVar, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torch import distributed as dist

__all__ = [
    "Batch",
    "DiscriminatorOutput",
    "Loss",
    "LossInputs",
    "Pyramid",
    "as_pyramid",
    "batch_mean",
    "pyramid",
    "whole_batch",
]

Pyramid: TypeAlias = tuple[Tensor, ...]
"""One image at several resolutions, finest first: level l has ceil(side / 2^l) voxels a side."""


def pyramid(image: Tensor, levels: int) -> Pyramid:
    """The first `levels` levels of an image `(b, c, i, j, k)`.

    Level l is the nearest-neighbour reduction of level 0, every 2^l-th voxel: the same voxels as
    `interpolate(mode="nearest")` gives on sides that divide by 2^l, and views rather than copies.
    """
    return tuple(image[..., :: 2**level, :: 2**level, :: 2**level] for level in range(levels))


def as_pyramid(output: Tensor | Pyramid) -> Pyramid:
    """A generator's output as a pyramid, whether it gave one level or several."""
    return (output,) if isinstance(output, Tensor) else tuple(output)


@dataclass(frozen=True)
class Batch:
    """Patches of one training step.

    Args:
        source: `(b, c, i, j, k)` in [0, 1].
        target: `(b, c, i, j, k)` in [0, 1].
        mask: `(b, 1, i, j, k)` of 0 and 1 where the source lies, or None where the cohort has no masks.
        cases: the number of the case each source was cut from.
        target_mask: as `mask` where the target lies; None where that is the same place, in a method for pairs.
        valid: `(b, 1, i, j, k)`, 0 where the images have no data: beyond a volume's border, and where a field of view
            ends. Nothing is to be learnt there. None where there are data everywhere.
        target_valid: as `valid` where the target lies, in a method without pairs.
    """

    source: Tensor
    target: Tensor
    mask: Tensor | None
    cases: tuple[int, ...]
    target_mask: Tensor | None = None
    valid: Tensor | None = None
    target_valid: Tensor | None = None

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """The same batch with its tensors on `device`."""
        return self._changed(lambda tensor: tensor.to(device, non_blocking=non_blocking), self.cases)

    def chunks(self, count: int) -> list[Batch]:
        """The batch in `count` equal parts, in order."""
        size = len(self.cases) // count
        bounds = [slice(first * size, (first + 1) * size) for first in range(count)]
        return [self._changed(itemgetter(part), self.cases[part]) for part in bounds]

    def _changed(self, change: Callable[[Tensor], Tensor], cases: tuple[int, ...]) -> Batch:
        maps = (self.mask, self.target_mask, self.valid, self.target_valid)
        mask, *others = (None if one is None else change(one) for one in maps)
        return Batch(change(self.source), change(self.target), mask, cases, *others)


class DiscriminatorOutput(NamedTuple):
    """What a discriminator says of one candidate; a tuple, since wrappers of networks rebuild their outputs.

    Args:
        logits: one map a scale, finest first; positive means real.
        features: for each entry of `logits` the feature maps that feature-matching losses compare.
    """

    logits: tuple[Tensor, ...]
    features: tuple[tuple[Tensor, ...], ...] = ()

    def detach(self) -> DiscriminatorOutput:
        """The same values without graph."""
        return DiscriminatorOutput(
            tuple(logit.detach() for logit in self.logits),
            tuple(tuple(feature.detach() for feature in scale) for scale in self.features),
        )


@dataclass(frozen=True)
class LossInputs:
    """What every loss sees in a training step.

    In phase "generator" `real` comes without graph and `fake` with, the discriminator frozen; in phase
    "discriminator" `prediction` is detached.

    Args:
        source: the levels of the source, as many as `prediction` has.
        target: the levels of the target, as many as `prediction` has.
        prediction: the levels the generator gave.
        mask: `(b, 1, i, j, k)` at level 0, or None; 0 where `valid` is.
        real: the discriminator on the target; None without a discriminator.
        fake: the discriminator on the prediction; None without a discriminator.
        step: the training step, from 0.
        phase: whose update this is.
        valid: `(b, 1, i, j, k)` at level 0, 0 where there are no data and `prediction` therefore equals `target`; None
            where there are data everywhere.
        before: where the batch goes through the networks in chunks and this is one of them, those before it, without
            graph.
        after: those after it, without graph.
    """

    source: Pyramid
    target: Pyramid
    prediction: Pyramid
    mask: Tensor | None
    real: DiscriminatorOutput | None
    fake: DiscriminatorOutput | None
    step: int
    phase: Literal["generator", "discriminator"]
    valid: Tensor | None = None
    before: tuple[LossInputs, ...] = ()
    after: tuple[LossInputs, ...] = ()

    @property
    def whole(self) -> LossInputs:
        """This chunk and those before and after it as one batch."""
        parts = (*self.before, self, *self.after)
        names = ("source", "target", "prediction", "mask", "real", "fake", "valid")
        joined = {name: _joined([getattr(part, name) for part in parts]) for name in names}
        return replace(self, before=(), after=(), **joined)


def _joined(parts: Sequence[Any]) -> Any:
    if parts[0] is None:
        return None
    if isinstance(parts[0], Tensor):
        return torch.cat(tuple(parts))
    found = [_joined(same) for same in zip(*parts, strict=True)]
    return type(parts[0])(*found) if isinstance(parts[0], DiscriminatorOutput) else tuple(found)


class Loss(nn.Module, ABC):
    """Base of losses.

    The weight in the config multiplies the generator's term only; the discriminator minimises the plain sum of the
    losses' terms. A mean over the batch inside a loss is `batch_mean`, over all ranks.

    Attributes:
        adversarial: True where the loss needs a discriminator; a config that has none is then refused.
    """

    adversarial: ClassVar[bool] = False

    @abstractmethod
    def forward(self, inputs: LossInputs) -> Tensor:
        """The generator's term, a scalar."""

    def discriminator_loss(self, inputs: LossInputs) -> Tensor | None:
        """The discriminator's term, a scalar; None where the loss trains the generator only."""
        return None

    def averages_cases(self, valid: Tensor | None) -> bool:
        """Whether both terms of a batch are the means of the terms of its cases, one by one.

        A loss that says so is given one chunk at a time under `train.accumulate`. Every other, as is the default, is
        given the whole batch with each chunk, so that its gradient is that of the whole batch too.

        Args:
            valid: of the batch, as in `LossInputs`.
        """
        return False


class _SumOverRanks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total


def batch_mean(values: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean of all elements of the batch over all ranks, differentiable.

    Every rank gets the same value, and averaging the ranks' gradients (as DDP does) gives the gradient of that value
    as one rank with the whole batch would have it.

    Args:
        values: any shape.
        weight: broadcastable to `values`, for a weighted mean such as one inside a mask; a total of 0 gives 0.
    """
    if weight is None:
        total, count = values.sum(), values.new_tensor(float(values.numel()))
    else:
        weight = weight.to(values.dtype).expand_as(values)
        total, count = (values * weight).sum(), weight.sum()
    if _several_ranks():
        summed: Tensor = _SumOverRanks.apply(torch.stack((total, count)))  # type: ignore[no-untyped-call]  # torch leaves it untyped
        total, count = summed.unbind()
    return total / count.clamp_min(torch.finfo(count.dtype).tiny)


def whole_batch(values: Tensor) -> tuple[Tensor, slice]:
    """All ranks' values along the first axis, ordered as one rank with the whole batch has them, without graph.

    Args:
        values: this rank's part of the batch, `(b, ...)`, of one size on all ranks.

    Returns:
        The whole, and where in it this rank's part is.
    """
    values = values.detach()
    if not _several_ranks():
        return values, slice(0, len(values))
    parts = [torch.empty_like(values, memory_format=torch.contiguous_format) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, values.contiguous())
    first = dist.get_rank() * len(values)
    return torch.cat(parts), slice(first, first + len(values))


def _several_ranks() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
