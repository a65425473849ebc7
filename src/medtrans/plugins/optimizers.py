"""The optimisers a config may name, each with its options; torch is imported only when one is made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

if TYPE_CHECKING:
    from torch.nn import Parameter
    from torch.optim import Optimizer

__all__ = ["OPTIMIZERS", "SGD", "Adam", "AdamW"]


Rate = Annotated[float, Field(gt=0)]
Decay = Annotated[float, Field(ge=0)]
Momentum = Annotated[float, Field(ge=0, lt=1)]


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma and Ba 2015).

    Args:
        lr: learning rate before the schedule's factor.
        betas: decay of the averages of gradient and squared gradient.
        eps: added to the denominator.
        weight_decay: L2 penalty, added to the gradient.
    """

    lr: Rate = 1e-4
    betas: tuple[Momentum, Momentum] = (0.9, 0.999)
    eps: Rate = 1e-8
    weight_decay: Decay = 0.0

    def make(self, params: Iterable[Parameter], *, fused: bool = True) -> Optimizer:
        """The optimiser over `params`; `fused` updates them in one pass rather than operation by operation."""
        from torch import optim

        return optim.Adam(params, **asdict(self), fused=fused)


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019).

    Args:
        weight_decay: share of a weight taken off at each step, times the learning rate.
    """

    weight_decay: Decay = 0.01

    def make(self, params: Iterable[Parameter], *, fused: bool = True) -> Optimizer:
        """The optimiser over `params`; `fused` updates them in one pass rather than operation by operation."""
        from torch import optim

        return optim.AdamW(params, **asdict(self), fused=fused)


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent with momentum.

    Args:
        lr: learning rate before the schedule's factor.
        momentum: share of the last update that is kept.
        nesterov: look ahead by the momentum.
        weight_decay: L2 penalty, added to the gradient.
    """

    lr: Rate = 1e-2
    momentum: Momentum = 0.9
    nesterov: bool = False
    weight_decay: Decay = 0.0

    def make(self, params: Iterable[Parameter], *, fused: bool = True) -> Optimizer:
        """The optimiser over `params`; `fused` updates them in one pass rather than operation by operation."""
        from torch import optim

        return optim.SGD(params, **asdict(self), fused=fused)


OPTIMIZERS: Mapping[str, type] = {"adam": Adam, "adamw": AdamW, "sgd": SGD}
