"""Owns training on registered pairs, with or without a discriminator."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from medtrans import Method, Parts
from medtrans.builtin.methods.average import Average
from medtrans.builtin.methods.pool import PredictionPool
from medtrans.types import Batch, DiscriminatorOutput, LossInputs, Pyramid, as_pyramid, pyramid

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from torch.optim import Optimizer

__all__ = ["PairedMethod"]


@dataclass
class _Player:
    """A network with its optimiser.

    `bare` is the network itself; `network` is what a training step calls: the same, or Fabric's wrapper around it.
    """

    role: str
    bare: nn.Module
    network: nn.Module
    optimizer: Optimizer
    base_rates: tuple[float, ...]


class PairedMethod(Method):
    """A generator trained on pairs, against a discriminator where the config has one (Ha et al., arXiv 2412.00575).

    One forward of the generator serves both updates. The generator's term is the sum of the losses' terms times their
    weights; the discriminator minimises the plain sum of its losses' terms. Outputs are clipped in `translate` alone,
    since a clip in training has no gradient outside its range.

    Args:
        parts: what the engine hands over.
        order: whose weights a step updates first.
        pool_size: past predictions the discriminator may be shown, each beside its own source, instead of fresh ones;
            0 for none. Checkpoints then hold these images.
        clip_norm: gradients of a network are scaled down to this norm; null does not clip.
        ema: share that the running average of the generator's weights keeps at each step; validation and prediction
            then use the average. null uses the weights themselves.
    """

    def __init__(
        self,
        parts: Parts,
        *,
        order: Literal["discriminator_first", "generator_first"] = "discriminator_first",
        pool_size: Annotated[int, Field(ge=0)] = 0,
        clip_norm: Annotated[float, Field(gt=0)] | None = None,
        ema: Annotated[float, Field(gt=0, lt=1)] | None = None,
    ) -> None:
        self.parts, self.order, self.clip_norm = parts, order, clip_norm
        self.losses = nn.ModuleDict({name: loss.module for name, loss in parts.losses.items()})
        self.generator = self._player("generator", parts.make_generator(parts.source_channels, parts.target_channels))
        self.discriminator = (
            None
            if parts.make_discriminator is None
            else self._player("discriminator", parts.make_discriminator(parts.source_channels, parts.target_channels))
        )
        self.average = None if ema is None else Average(self.generator.bare, ema)
        self.pool = PredictionPool(pool_size)
        self.fabric: Fabric | None = None

    def networks(self) -> dict[str, nn.Module]:
        """The generator, its average and the discriminator, as far as there are."""
        found = {"generator": self.generator.bare}
        if self.average is not None:
            found["generator_average"] = self.average.network
        if self.discriminator is not None:
            found["discriminator"] = self.discriminator.bare
        return found

    def setup(self, fabric: Fabric) -> None:
        """Hand networks and optimisers to Fabric."""
        self.fabric = fabric
        for player in self._players():
            player.network, player.optimizer = fabric.setup(player.bare, player.optimizer)
            # Fabric moves weights only; a state loaded before now follows them in device and precision.
            player.optimizer.load_state_dict(player.optimizer.state_dict())
        self.pool.kept = [tuple(image.to(fabric.device) for image in kept) for kept in self.pool.kept]
        self.losses.to(fabric.device)
        if self.average is not None:
            self.average.network.to(fabric.device)

    def training_step(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Update discriminator and generator once each.

        With `parts.accumulate` chunks, one chunk's graph is kept at a time, at the price of one more forward of the
        generator where the discriminator goes first.
        """
        chunks = batch.chunks(self.parts.accumulate)
        for player in self._players():
            for group, rate in zip(player.optimizer.param_groups, player.base_rates, strict=True):
                group["lr"] = rate * self.parts.learning_rate_factor(step, player.role)
            player.network.train()
        if self.order == "discriminator_first":
            live = [self._predict(chunk) for chunk in chunks] if len(chunks) == 1 else None
            values = self._update_discriminator(chunks, live or self._predictions_without_graph(chunks), step)
            values |= self._update_generator(chunks, live, step)[0]
        else:
            values, shown = self._update_generator(chunks, None, step)
            values |= self._update_discriminator(chunks, shown, step)
        if self.average is not None:
            self.average.update(self.generator.bare)
        rate = self.generator.optimizer.param_groups[0]["lr"]
        return {**values, "learning_rate": torch.as_tensor(rate)}

    def generator_losses(self, inputs: LossInputs) -> dict[str, Tensor]:
        """The generator's terms by loss, before their weights."""
        return {name: loss(inputs) for name, loss in self.losses.items()}

    def discriminator_losses(self, inputs: LossInputs) -> dict[str, Tensor]:
        """The discriminator's terms by loss, of the losses that have one."""
        found = {}
        for name, loss in self.losses.items():
            own_term = getattr(loss, "discriminator_loss", None)
            term = None if own_term is None else own_term(inputs)
            if term is not None:
                found[name] = term
        return found

    def translate(self, source: Tensor) -> Tensor:
        """The translation at full resolution, float32 in [0, 1]."""
        # Not Fabric's wrapper: ranks translate different numbers of windows, and a wrapper may wait for the others.
        network = self.generator.bare if self.average is None else self.average.network
        source = source.to(next(network.parameters()).dtype)
        with torch.no_grad(), _evaluating(network), self._precision():
            return as_pyramid(network(source))[0].float().clamp(0, 1)

    def state_dict(self) -> dict[str, Any]:
        """Optimisers, pool and the average's count."""
        return {
            "optimizers": {player.role: player.optimizer.state_dict() for player in self._players()},
            "pool": [list(kept) for kept in self.pool.kept],
            "average_updates": 0 if self.average is None else self.average.updates,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what `state_dict` gave."""
        for player in self._players():
            player.optimizer.load_state_dict(copy.deepcopy(state["optimizers"][player.role]))
        device = next(self.generator.network.parameters()).device
        self.pool.kept = [tuple(level.to(device) for level in kept) for kept in state["pool"]]
        if self.average is not None:
            self.average.updates = int(state["average_updates"])

    def _player(self, role: str, network: nn.Module) -> _Player:
        optimizer = self.parts.make_optimizer(network.parameters(), role)
        return _Player(role, network, network, optimizer, tuple(group["lr"] for group in optimizer.param_groups))

    def _players(self) -> tuple[_Player, ...]:
        return tuple(player for player in (self.generator, self.discriminator) if player is not None)

    def _update_discriminator(self, chunks: list[Batch], predictions: list[Pyramid], step: int) -> dict[str, Tensor]:
        if self.discriminator is None:
            return {}
        player, values = self.discriminator, _Sums(len(chunks))
        player.optimizer.zero_grad(set_to_none=True)
        for index, (chunk, prediction) in enumerate(zip(chunks, predictions, strict=True)):
            # An older prediction is judged beside the source it was made from, or the pair alone would give it away.
            fresh = (*(level.detach() for level in prediction), chunk.source)
            *shown, source = self.pool.exchange(fresh, step * len(chunks) + index)
            inputs = self._inputs(chunk, tuple(shown), step, "discriminator")
            inputs = replace(
                inputs,
                real=self._judge(player.network, inputs.target, inputs.source),
                fake=self._judge(player.network, inputs.prediction, pyramid(source, len(shown))),
            )
            terms = self.discriminator_losses(inputs)
            if not terms:
                return {}
            total = torch.stack(list(terms.values())).sum()
            self._backward(total / len(chunks), player, last=index == len(chunks) - 1)
            values.add({"discriminator": total})
        return values.means() | self._step(player)

    def _predict(self, chunk: Batch) -> Pyramid:
        return as_pyramid(self.generator.network(chunk.source))

    def _predictions_without_graph(self, chunks: list[Batch]) -> list[Pyramid]:
        if self.discriminator is None:
            return []
        with torch.no_grad():
            return [self._predict(chunk) for chunk in chunks]

    def _update_generator(
        self, chunks: list[Batch], live: list[Pyramid] | None, step: int
    ) -> tuple[dict[str, Tensor], list[Pyramid]]:
        """Update on `live` predictions, or on new ones; returns them without graph beside the scalars."""
        player, values = self.generator, _Sums(len(chunks))
        player.optimizer.zero_grad(set_to_none=True)
        weights = {name: loss.weight_at(step, self.parts.epoch_steps) for name, loss in self.parts.losses.items()}
        shown: list[Pyramid] = []
        for index, chunk in enumerate(chunks):
            prediction = self._predict(chunk) if live is None else live[index]
            shown.append(tuple(level.detach() for level in prediction))
            inputs = self._inputs(chunk, prediction, step, "generator")
            with self._frozen_discriminator() as judge:
                if judge is not None:
                    with torch.no_grad():
                        real = self._judge(judge, inputs.target, inputs.source)
                    inputs = replace(inputs, real=real, fake=self._judge(judge, inputs.prediction, inputs.source))
                terms = self.generator_losses(inputs)
                total = torch.stack([term * weights.get(name, 1.0) for name, term in terms.items()]).sum()
                self._backward(total / len(chunks), player, last=index == len(chunks) - 1)
            values.add({**terms, "generator": total})
        return values.means() | self._step(player), shown

    def _inputs(
        self, chunk: Batch, prediction: Pyramid, step: int, phase: Literal["generator", "discriminator"]
    ) -> LossInputs:
        levels = len(prediction)
        return LossInputs(
            source=pyramid(chunk.source, levels),
            target=pyramid(chunk.target, levels),
            prediction=tuple(_full(level) for level in prediction),
            mask=chunk.mask,
            real=None,
            fake=None,
            step=step,
            phase=phase,
        )

    def _judge(self, network: nn.Module, candidate: Pyramid, source: Pyramid) -> DiscriminatorOutput:
        output = network(candidate, source)
        return DiscriminatorOutput(
            tuple(_full(logit) for logit in output.logits),
            tuple(tuple(_full(feature) for feature in scale) for scale in output.features),
        )

    @contextmanager
    def _frozen_discriminator(self) -> Iterator[nn.Module | None]:
        """The discriminator without gradients of its own, nor any exchange between ranks.

        Weights that its author froze stay frozen afterwards.
        """
        if self.discriminator is None:
            yield None
            return
        network = self.discriminator.network
        trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
        network.requires_grad_(requires_grad=False)
        try:
            yield network
        finally:
            for parameter in trained:
                parameter.requires_grad = True

    def _backward(self, total: Tensor, player: _Player, *, last: bool) -> None:
        if self.fabric is None:
            torch.autograd.backward(total)
            return
        wrapped: Any = player.network  # setup has put Fabric's wrapper around it
        with self.fabric.no_backward_sync(wrapped, enabled=not last):
            self.fabric.backward(total)

    def _step(self, player: _Player) -> dict[str, Tensor]:
        values = {}
        if self.clip_norm is not None:
            norm: Tensor | None
            if self.fabric is None:
                norm = nn.utils.clip_grad_norm_(player.network.parameters(), self.clip_norm)
            else:
                norm = self.fabric.clip_gradients(
                    player.network, player.optimizer, max_norm=self.clip_norm, error_if_nonfinite=False
                )
            values[f"{player.role}_gradient_norm"] = torch.as_tensor(norm).detach()
        player.optimizer.step()
        return values

    @contextmanager
    def _precision(self) -> Iterator[None]:
        if self.fabric is None:
            yield
            return
        with self.fabric.autocast():
            yield


class _Sums:
    """Means of scalars over chunks, without waiting for the device."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._sums: dict[str, Tensor] = {}

    def add(self, values: Mapping[str, Tensor]) -> None:
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, torch.zeros_like(value)).detach() + value.detach()

    def means(self) -> dict[str, Tensor]:
        return {name: total / self._count for name, total in self._sums.items()}


def _full(tensor: Tensor) -> Tensor:
    """At least float32: losses are not computed in half precision."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    """Eval mode; each module returns to the mode it was in, also after an error."""
    training = [module for module in network.modules() if module.training]
    network.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
