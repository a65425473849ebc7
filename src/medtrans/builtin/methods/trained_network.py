"""A network with its optimiser, and what every method does with the networks that it trains."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from medtrans import Parts
from medtrans.types import DiscriminatorOutput, Pyramid, as_pyramid

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["Average", "Player", "Sums", "accuracy", "backward", "evaluating", "judged", "predicted"]


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


class Average:
    """A copy of a network whose weights follow the trained ones slowly.

    Early on the average follows faster, by `min(decay, (1 + n) / (10 + n))` after n updates, so that it does not
    remember the random start.

    Args:
        network: the network to follow; it is copied.
        decay: share of the average that an update keeps.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).requires_grad_(requires_grad=False).eval()
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Move towards the network's weights; buffers are taken over as they are."""
        keep = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        for mine, theirs in zip(self.network.parameters(), network.parameters(), strict=True):
            mine.lerp_(theirs.to(mine.dtype), 1 - keep)
        for own, other in zip(self.network.buffers(), network.buffers(), strict=True):
            own.copy_(other)


def judged(discriminator: nn.Module, candidate: Pyramid, source: Pyramid) -> DiscriminatorOutput:
    """What a discriminator says of a candidate, at least in float32."""
    output = discriminator(candidate, source)
    return DiscriminatorOutput(
        tuple(_full(logit) for logit in output.logits),
        tuple(tuple(_full(feature) for feature in scale) for scale in output.features),
    )


def accuracy(real: DiscriminatorOutput, fake: DiscriminatorOutput) -> Tensor:
    """Share of places at which the target looks more real to the discriminator than the prediction; 0.5 is guessing."""
    pairs = zip(real.logits, fake.logits, strict=True)
    shares = [(one > other).float().mean() + (one == other).float().mean() / 2 for one, other in pairs]
    return torch.stack(shares).mean()


def predicted(generator: nn.Module, source: Tensor) -> Pyramid:
    """The levels a generator gives for a source, at least in float32."""
    return tuple(_full(level) for level in as_pyramid(generator(source)))


def _full(tensor: Tensor) -> Tensor:
    """At least float32: losses are not computed in half precision."""
    return tensor.float() if tensor.itemsize < 4 else tensor


class Sums:
    """Means of scalars over chunks, without waiting for the device.

    Args:
        count: of chunks.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._sums: dict[str, Tensor] = {}

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Take in one chunk's scalars."""
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, torch.zeros_like(value)).detach() + value.detach()

    def means(self) -> dict[str, Tensor]:
        """The mean of each scalar, detached."""
        return {name: total / self._count for name, total in self._sums.items()}
