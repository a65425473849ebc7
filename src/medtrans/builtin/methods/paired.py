"""Training on registered pairs, with or without a discriminator."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from medtrans import Parts
from medtrans.builtin.methods.base import (
    ChunkMeans,
    GeneratorMethod,
    ImagePool,
    TrainedNetwork,
    WeightAverage,
    accuracy,
    backward,
    beside,
    discriminate,
    discriminator_term,
    generate,
    loss_inputs,
    loss_term,
    settled,
)
from medtrans.types import Batch, DiscriminatorOutput, LossInputs, Pyramid, pyramid

__all__ = ["PairedMethod"]


class PairedMethod(GeneratorMethod):
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
        super().__init__(parts, clip_norm=clip_norm)
        self.order = order
        channels = parts.source_channels, parts.target_channels
        self.generator = TrainedNetwork(parts, "generator", parts.make_generator(*channels))
        self.discriminator: TrainedNetwork | None = None
        if parts.make_discriminator is not None:
            self.discriminator = TrainedNetwork(parts, "discriminator", parts.make_discriminator(*channels))
        self.average = None if ema is None else WeightAverage(self.generator.bare, ema)
        self.pool = ImagePool(pool_size)

    def trained(self) -> tuple[TrainedNetwork, ...]:
        """The generator, and the discriminator where there is one."""
        return tuple(one for one in (self.generator, self.discriminator) if one is not None)

    def pools(self) -> tuple[ImagePool, ...]:
        """The discriminator's."""
        return (self.pool,)

    def training_step(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Update discriminator and generator once each.

        With `parts.accumulate` chunks, one chunk's graph is kept at a time, at the price of one more forward of the
        generator where the discriminator goes first, and of either network where a loss is no mean over cases.
        """
        chunks = batch.chunks(self.parts.accumulate)
        self.begin(step)
        if self.order == "discriminator_first":
            live = [self._predict(chunk) for chunk in chunks] if len(chunks) == 1 else None
            made = live or self._detached_predictions(chunks)
            values = self._update_discriminator(chunks, made, step)
            values |= self._update_generator(chunks, live, made, step)[0]
        else:
            values, shown = self._update_generator(chunks, None, [], step)
            values |= self._update_discriminator(chunks, shown, step)
        return {**values, **self.end()}

    def generator_losses(self, inputs: LossInputs) -> dict[str, Tensor]:
        """The generator's terms by loss, before their weights."""
        return {name: loss_term(loss, inputs) for name, loss in self.losses.items()}

    def discriminator_losses(self, inputs: LossInputs) -> dict[str, Tensor]:
        """The discriminator's terms by loss, of the losses that have one."""
        terms = {name: discriminator_term(loss, inputs) for name, loss in self.losses.items()}
        return {name: term for name, term in terms.items() if term is not None}

    def state_dict(self) -> dict[str, Any]:
        """Optimisers, pool and the average's count."""
        return {**super().state_dict(), "pool": [list(kept) for kept in self.pool.kept]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what `state_dict` gave."""
        super().load_state_dict(state)
        self.pool.restore(state["pool"], next(self.generator.network.parameters()).device)

    def _update_discriminator(self, chunks: list[Batch], predictions: list[Pyramid], step: int) -> dict[str, Tensor]:
        if self.discriminator is None:
            return {}
        trained, values = self.discriminator, ChunkMeans(len(chunks))
        trained.clear()
        shown = [
            # An older prediction is judged beside the source it was made from, or the pair alone would give it away.
            self.pool.exchange((*(level.detach() for level in prediction), chunk.source), step * len(chunks) + index)
            for index, (chunk, prediction) in enumerate(zip(chunks, predictions, strict=True))
        ]
        known: list[LossInputs] = []
        if self.over_batch(chunks):
            with torch.no_grad():
                known = [_judged(trained.network, *one, step)[0] for one in zip(chunks, shown, strict=True)]
        for index, (chunk, pair) in enumerate(zip(chunks, shown, strict=True)):
            inputs, real, fake = _judged(trained.network, chunk, pair, step)
            terms = self.discriminator_losses(beside(inputs, known, index))
            if not terms:
                return {}
            total = torch.stack(list(terms.values())).sum()
            backward(total / len(chunks), [trained], last=index == len(chunks) - 1)
            values.add({"discriminator": total, "discriminator_accuracy": accuracy(real, fake)})
        return values.means() | trained.update(self.clip_norm)

    def _predict(self, chunk: Batch) -> Pyramid:
        return settled(generate(self.generator.network, chunk.source), self.known(chunk), chunk.valid)

    def known(self, chunk: Batch) -> Tensor:
        """What a prediction is taken to be where there are no data: the target, as the generator would write it."""
        return chunk.target

    def _detached_predictions(self, chunks: list[Batch]) -> list[Pyramid]:
        if self.discriminator is None and not self.over_batch(chunks):
            return []
        with torch.no_grad():
            return [self._predict(chunk) for chunk in chunks]

    def _update_generator(
        self, chunks: list[Batch], live: list[Pyramid] | None, made: list[Pyramid], step: int
    ) -> tuple[dict[str, Tensor], list[Pyramid]]:
        """Update on `live` predictions, or on new ones; returns them without graph beside the scalars.

        `made` are predictions without graph where there are some.
        """
        trained, values = self.generator, ChunkMeans(len(chunks))
        trained.clear()
        weights = {name: self.weight(name, step) for name in self.parts.losses}
        shown: list[Pyramid] = []
        known: list[LossInputs] = []
        if self.over_batch(chunks):
            with torch.no_grad():
                made = made or self._detached_predictions(chunks)
                known = [self._seen(chunk, one, step) for chunk, one in zip(chunks, made, strict=True)]
        for index, chunk in enumerate(chunks):
            prediction = self._predict(chunk) if live is None else live[index]
            shown.append(tuple(level.detach() for level in prediction))
            with nullcontext() if self.discriminator is None else self.discriminator.frozen():
                terms = self.generator_losses(beside(self._seen(chunk, prediction, step), known, index))
                total = torch.stack([term * weights.get(name, 1.0) for name, term in terms.items()]).sum()
                backward(total / len(chunks), [trained], last=index == len(chunks) - 1)
            values.add({**terms, "generator": total})
        return values.means() | trained.update(self.clip_norm), shown

    def _seen(self, chunk: Batch, prediction: Pyramid, step: int) -> LossInputs:
        """A chunk as the generator's losses see it."""
        inputs = loss_inputs(chunk.source, chunk.target, prediction, chunk.mask, step, valid=chunk.valid)
        if self.discriminator is None:
            return inputs
        with torch.no_grad():
            real = discriminate(self.discriminator.network, inputs.target, inputs.source)
        return replace(
            inputs, real=real, fake=discriminate(self.discriminator.network, inputs.prediction, inputs.source)
        )


def _judged(
    network: nn.Module, chunk: Batch, pair: Pyramid, step: int
) -> tuple[LossInputs, DiscriminatorOutput, DiscriminatorOutput]:
    """A chunk as the discriminator's losses see it; `pair` is a prediction and, last, its own source."""
    *shown, source = pair
    inputs = loss_inputs(chunk.source, chunk.target, tuple(shown), chunk.mask, step, "discriminator", chunk.valid)
    real = discriminate(network, inputs.target, inputs.source)
    fake = discriminate(network, inputs.prediction, pyramid(source, len(shown)))
    return replace(inputs, real=real, fake=fake), real, fake
