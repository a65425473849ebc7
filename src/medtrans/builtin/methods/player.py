"""Owns a network with its optimiser: what every method does with each of the networks that it trains."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from medtrans import Parts

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["Player", "backward", "evaluating"]


class Player:
    """A network with its optimiser, alone or in Fabric's hands.

    Args:
        parts: make the optimiser and give the schedule.
        role: "generator" or "discriminator".
        bare: the network itself.
        name: under which its scalars are told; None takes the role.

    Attributes:
        network: what a training step calls: the network itself, or Fabric's wrapper around it.
    """

    def __init__(self, parts: Parts, role: str, bare: nn.Module, *, name: str | None = None) -> None:
        self.parts, self.role, self.bare, self.name = parts, role, bare, name or role
        self.network = bare
        self.optimizer = parts.make_optimizer(bare.parameters(), role)
        self.base_rates = tuple(group["lr"] for group in self.optimizer.param_groups)
        self.fabric: Fabric | None = None

    def setup(self, fabric: Fabric) -> None:
        """Hand network and optimiser to Fabric."""
        self.fabric = fabric
        network = self.bare
        # The generator alone: that the discriminator's weights are frozen in every other call would compile it twice.
        if self.role == "generator" and self.parts.compiled is not None:
            network = self.parts.compiled(network)
        self.network, self.optimizer = fabric.setup(network, self.optimizer)
        # Fabric moves weights only; a state loaded before now follows them in device and precision.
        self.optimizer.load_state_dict(self.optimizer.state_dict())

    def begin(self, step: int) -> None:
        """Train mode, and the learning rates of this step."""
        factor = self.parts.learning_rate_factor(step, self.role)
        for group, rate in zip(self.optimizer.param_groups, self.base_rates, strict=True):
            group["lr"] = rate * factor
        self.network.train()

    def update(self, clip_norm: float | None) -> dict[str, Tensor]:
        """Clip where that is wanted, and step the optimiser; returns the norm of the gradients as they were.

        With 16-mixed it does not: gradients that overflow are no fault there, the step is left out and the scale
        lowered.
        """
        norm = self._clip(clip_norm)
        self.optimizer.step()
        scaled = self.fabric is not None and getattr(self.fabric.strategy.precision, "scaler", None) is not None
        return {} if scaled else {f"{self.name}_gradient_norm": norm.detach()}

    def _clip(self, clip_norm: float | None) -> Tensor:
        parameters = list(self.network.parameters())
        if clip_norm is None:
            return nn.utils.get_total_norm([one.grad for one in parameters if one.grad is not None])
        if self.fabric is None:
            return nn.utils.clip_grad_norm_(parameters, clip_norm)
        norm = self.fabric.clip_gradients(self.network, self.optimizer, max_norm=clip_norm, error_if_nonfinite=False)
        return torch.as_tensor(norm)

    def clear(self) -> None:
        """Drop the gradients."""
        self.optimizer.zero_grad(set_to_none=True)

    def load_optimizer(self, state: Mapping[str, Any]) -> None:
        """Take up an optimiser's state, which is left untouched."""
        self.optimizer.load_state_dict(copy.deepcopy(dict(state)))

    @contextmanager
    def frozen(self) -> Iterator[nn.Module]:
        """The network without gradients of its own, nor any exchange between ranks.

        Weights that its author froze stay frozen afterwards.
        """
        trained = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        self.network.requires_grad_(requires_grad=False)
        try:
            yield self.network
        finally:
            for parameter in trained:
                parameter.requires_grad = True


def backward(total: Tensor, players: Sequence[Player], *, last: bool = True) -> None:
    """Gradients of `total` for all players' networks; ranks exchange them with the `last` of a step only."""
    fabric = players[0].fabric
    if fabric is None:
        torch.autograd.backward(total)
        return
    with ExitStack() as waiting:
        for player in players:
            wrapped: Any = player.network  # setup has put Fabric's wrapper around it
            waiting.enter_context(fabric.no_backward_sync(wrapped, enabled=not last))
        fabric.backward(total)


@contextmanager
def evaluating(network: nn.Module, fabric: Fabric | None) -> Iterator[None]:
    """Eval mode, without graph, in Fabric's precision; each module returns to its mode, also after an error."""
    training = [module for module in network.modules() if module.training]
    network.eval()
    try:
        with ExitStack() as entered:
            entered.enter_context(torch.no_grad())
            if fabric is not None:
                entered.enter_context(fabric.autocast())
            yield
    finally:
        for module in training:
            module.training = True
