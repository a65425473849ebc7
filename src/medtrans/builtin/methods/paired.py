"""Owns training on registered pairs, with or without a discriminator."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from medtrans import Method, Parts
from medtrans.builtin.methods.image_pool import PredictionPool
from medtrans.builtin.methods.trained_network import (
    Average,
    Player,
    Sums,
    accuracy,
    backward,
    evaluating,
    judged,
    predicted,
)
from medtrans.types import Batch, LossInputs, Pyramid, as_pyramid, pyramid

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["PairedMethod"]


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
        self.generator = Player(parts, "generator", parts.make_generator(parts.source_channels, parts.target_channels))
        self.discriminator = (
            None
            if parts.make_discriminator is None
            else Player(parts, "discriminator", parts.make_discriminator(parts.source_channels, parts.target_channels))
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
            player.setup(fabric)
        self.pool.kept = [tuple(image.to(fabric.device) for image in kept) for kept in self.pool.kept]
        fabric.strategy.precision.convert_module(self.losses.to(fabric.device))
        if self.average is not None:
            self.average.network.to(fabric.device)

    def training_step(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Update discriminator and generator once each.

        With `parts.accumulate` chunks, one chunk's graph is kept at a time, at the price of one more forward of the
        generator where the discriminator goes first.
        """
        chunks = batch.chunks(self.parts.accumulate)
        for player in self._players():
            player.begin(step)
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
        return self.evaluated(source).clamp(0, 1)

    def evaluated(self, source: Tensor) -> Tensor:
        """The generator's own output at full resolution, float32, by the weights meant for evaluation."""
        # Not Fabric's wrapper: ranks translate different numbers of windows, and a wrapper may wait for the others.
        network = self.generator.bare if self.average is None else self.average.network
        source = source.to(next(network.parameters()).dtype)
        with evaluating(network, self.fabric):
            return as_pyramid(network(source))[0].float()

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
            player.load_optimizer(state["optimizers"][player.role])
        device = next(self.generator.network.parameters()).device
        self.pool.kept = [tuple(level.to(device) for level in kept) for kept in state["pool"]]
        if self.average is not None:
            self.average.updates = int(state["average_updates"])

    def _players(self) -> tuple[Player, ...]:
        return tuple(player for player in (self.generator, self.discriminator) if player is not None)

    def _update_discriminator(self, chunks: list[Batch], predictions: list[Pyramid], step: int) -> dict[str, Tensor]:
        if self.discriminator is None:
            return {}
        player, values = self.discriminator, Sums(len(chunks))
        player.clear()
        for index, (chunk, prediction) in enumerate(zip(chunks, predictions, strict=True)):
            # An older prediction is judged beside the source it was made from, or the pair alone would give it away.
            fresh = (*(level.detach() for level in prediction), chunk.source)
            *shown, source = self.pool.exchange(fresh, step * len(chunks) + index)
            inputs = self._inputs(chunk, tuple(shown), step, "discriminator")
            real = judged(player.network, inputs.target, inputs.source)
            fake = judged(player.network, inputs.prediction, pyramid(source, len(shown)))
            inputs = replace(inputs, real=real, fake=fake)
            terms = self.discriminator_losses(inputs)
            if not terms:
                return {}
            total = torch.stack(list(terms.values())).sum()
            backward(total / len(chunks), [player], last=index == len(chunks) - 1)
            values.add({"discriminator": total, "discriminator_accuracy": accuracy(real, fake)})
        return values.means() | player.update(self.clip_norm)

    def _predict(self, chunk: Batch) -> Pyramid:
        return predicted(self.generator.network, chunk.source)

    def _predictions_without_graph(self, chunks: list[Batch]) -> list[Pyramid]:
        if self.discriminator is None:
            return []
        with torch.no_grad():
            return [self._predict(chunk) for chunk in chunks]

    def _update_generator(
        self, chunks: list[Batch], live: list[Pyramid] | None, step: int
    ) -> tuple[dict[str, Tensor], list[Pyramid]]:
        """Update on `live` predictions, or on new ones; returns them without graph beside the scalars."""
        player, values = self.generator, Sums(len(chunks))
        player.clear()
        weights = {name: loss.weight_at(step, self.parts.epoch_steps) for name, loss in self.parts.losses.items()}
        shown: list[Pyramid] = []
        for index, chunk in enumerate(chunks):
            prediction = self._predict(chunk) if live is None else live[index]
            shown.append(tuple(level.detach() for level in prediction))
            inputs = self._inputs(chunk, prediction, step, "generator")
            with nullcontext() if self.discriminator is None else self.discriminator.frozen() as judge:
                if judge is not None:
                    with torch.no_grad():
                        real = judged(judge, inputs.target, inputs.source)
                    inputs = replace(inputs, real=real, fake=judged(judge, inputs.prediction, inputs.source))
                terms = self.generator_losses(inputs)
                total = torch.stack([term * weights.get(name, 1.0) for name, term in terms.items()]).sum()
                backward(total / len(chunks), [player], last=index == len(chunks) - 1)
            values.add({**terms, "generator": total})
        return values.means() | player.update(self.clip_norm), shown

    def _inputs(
        self, chunk: Batch, prediction: Pyramid, step: int, phase: Literal["generator", "discriminator"]
    ) -> LossInputs:
        levels = len(prediction)
        return LossInputs(
            source=pyramid(chunk.source, levels),
            target=pyramid(chunk.target, levels),
            prediction=prediction,
            mask=chunk.mask,
            real=None,
            fake=None,
            step=step,
            phase=phase,
        )
