"""Training without pairs: two generators that undo each other, each against a discriminator of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from medtrans import ConfigError, Parts
from medtrans.builtin.methods.base import (
    ChunkMeans,
    GeneratorMethod,
    ImagePool,
    TrainedNetwork,
    WeightAverage,
    backward,
    beside,
    discriminate,
    discriminator_term,
    generate,
    loss_inputs,
    loss_term,
    settled,
)
from medtrans.types import Batch, LossInputs, Pyramid

__all__ = ["CycleMethod"]


class _Direction(NamedTuple):
    """One way of translating; `suffix` tells its scalars from those of the other way."""

    suffix: str
    generator: TrainedNetwork
    discriminator: TrainedNetwork
    pool: ImagePool


class _Domain(NamedTuple):
    """The patches of one modality."""

    image: Tensor
    mask: Tensor | None
    valid: Tensor | None


class _Term(NamedTuple):
    """One loss's term for the generators, under the name that its scalar has."""

    name: str
    weight: float
    loss: str
    inputs: LossInputs


class CycleMethod(GeneratorMethod):
    """CycleGAN in 3D (Zhu et al., ICCV 2017): source and target come from different subjects.

    One generator translates sources, another targets back; a discriminator of targets and one of sources judge what
    they write, and see past predictions from a pool. Translating there and back must give the image again.

    The config's losses serve both directions. An adversarial loss judges a translation, with its weight. Every other
    loss is a distance between two images: between an image and itself after the cycle, with its weight, and between
    an image and what the generator that writes its own modality makes of it, with `identity` times its weight. CycleGAN
    itself is `losses: {l1: {weight: 10}, lsgan: {weight: 2}}` (`lsgan` is halved here); one that compares images only
    is needed.

    Both generators come from the config's one slot, as do the discriminators, which judge a candidate without its
    source: they are made for 0 source channels. Masks, where a loss wants them, are those of the image that the loss
    compares with.

    Differs from CycleGAN: each network has an optimiser of its own; outputs are not bounded by tanh but clipped in
    `translate` alone; the running average is ours.

    Args:
        parts: what the engine hands over.
        identity: weight of the identity terms as a share of the cycle's; 0 for none. Needs as many sources as targets.
        pool_size: past predictions kept for each discriminator; 0 for none. Checkpoints then hold these images.
        clip_norm: gradients of a network are scaled down to this norm; null does not clip.
        ema: share that the running average of the weights from source to target keeps at each step; validation and
            prediction then use the average. null uses the weights themselves.

    Raises:
        ConfigError: no discriminator; `identity` with another number of sources than targets; no loss that compares
            images, or none that is adversarial.
    """

    pairing = "unpaired"

    def __init__(
        self,
        parts: Parts,
        *,
        identity: Annotated[float, Field(ge=0)] = 0.5,
        pool_size: Annotated[int, Field(ge=0)] = 50,
        clip_norm: Annotated[float, Field(gt=0)] | None = None,
        ema: Annotated[float, Field(gt=0, lt=1)] | None = None,
    ) -> None:
        source, target = parts.source_channels, parts.target_channels
        if identity and source != target:
            raise ConfigError(
                f"cycle: identity passes targets to the generator of targets and needs as many sources as targets; "
                f"found {source} and {target}. Set identity: 0"
            )
        super().__init__(parts, clip_norm=clip_norm)
        self.identity = identity
        self.adversarial = [name for name, loss in self.losses.items() if getattr(loss, "adversarial", False)]
        self.distances = [name for name in self.losses if name not in self.adversarial]
        self._check_losses()
        self.there = self._direction("", source, target, pool_size)
        self.back = self._direction("_back", target, source, pool_size)
        self.generator = self.there.generator
        self.average = None if ema is None else WeightAverage(self.generator.bare, ema)

    def trained(self) -> tuple[TrainedNetwork, ...]:
        """Generator and discriminator of targets, and as `..._back` those of sources."""
        return self.there.generator, self.back.generator, self.there.discriminator, self.back.discriminator

    def pools(self) -> tuple[ImagePool, ...]:
        """Those of targets and of sources."""
        return self.there.pool, self.back.pool

    def training_step(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Update both generators together, then each discriminator."""
        chunks = batch.chunks(self.parts.accumulate)
        self.begin(step)
        values, shown = self._update_generators(chunks, step)
        over_batch = self.over_batch(chunks)
        for way, images, predictions in (
            (self.there, [chunk.target for chunk in chunks], shown[0]),
            (self.back, [chunk.source for chunk in chunks], shown[1]),
        ):
            values |= self._update_discriminator(way, images, predictions, step, over_batch=over_batch)
        return {**values, **self.end()}

    def state_dict(self) -> dict[str, Any]:
        """Optimisers, pools and the average's count."""
        return {**super().state_dict(), "pools": [[list(kept) for kept in pool.kept] for pool in self.pools()]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what `state_dict` gave."""
        super().load_state_dict(state)
        for pool, kept in zip(self.pools(), state["pools"], strict=True):
            pool.restore(kept, next(self.generator.network.parameters()).device)

    def _direction(self, suffix: str, reads: int, writes: int, pool_size: int) -> _Direction:
        if self.parts.make_discriminator is None:
            raise ConfigError("cycle needs a discriminator, made once for each modality; set `discriminator`")
        generator = self.parts.make_generator(reads, writes)
        discriminator = self.parts.make_discriminator(0, writes)
        return _Direction(
            suffix,
            TrainedNetwork(self.parts, "generator", generator, name=f"generator{suffix}"),
            TrainedNetwork(self.parts, "discriminator", discriminator, name=f"discriminator{suffix}"),
            ImagePool(pool_size),
        )

    def _check_losses(self) -> None:
        needed = (("compares images", "l1", self.distances), ("is adversarial", "lsgan", self.adversarial))
        faults = [
            f"cycle needs a loss that {what}, such as {example}; found {', '.join(self.losses)}"
            for what, example, found in needed
            if not found
        ]
        if self.losses and faults:  # a method that only translates has none
            raise ConfigError(*faults)

    def _update_generators(
        self, chunks: list[Batch], step: int
    ) -> tuple[dict[str, Tensor], tuple[list[Pyramid], list[Pyramid]]]:
        """Both at once; returns scalars, and the predictions of targets and of sources without graph."""
        generators, values = (self.there.generator, self.back.generator), ChunkMeans(len(chunks))
        shown: tuple[list[Pyramid], list[Pyramid]] = ([], [])
        for generator in generators:
            generator.clear()
        known: list[list[_Term]] = []
        if self.over_batch(chunks):
            with torch.no_grad():
                known = [self._both_ways(chunk, step)[0] for chunk in chunks]
        for index, chunk in enumerate(chunks):
            terms, fresh = self._both_ways(chunk, step)
            found = {}
            for place, term in enumerate(terms):
                others = [each[place].inputs for each in known]
                found[term.name] = loss_term(self.losses[term.loss], beside(term.inputs, others, index))
            # One sum for both: the cycle terms of either direction pass through both generators.
            total = torch.stack([term.weight * found[term.name] for term in terms]).sum()
            backward(total / len(chunks), generators, last=index == len(chunks) - 1)
            values.add({**found, "generator": total})
            for kept, prediction in zip(shown, fresh, strict=True):
                kept.append(tuple(level.detach() for level in prediction))
        norms = {name: norm for generator in generators for name, norm in generator.update(self.clip_norm).items()}
        return values.means() | norms, shown

    def _both_ways(self, chunk: Batch, step: int) -> tuple[list[_Term], tuple[Pyramid, Pyramid]]:
        """The terms of both directions, and the predictions of targets and of sources."""
        source = _Domain(chunk.source, chunk.mask, chunk.valid)
        target = _Domain(chunk.target, chunk.target_mask, chunk.target_valid)
        there, targets = self._terms(self.there, self.back, source, target, step)
        back, sources = self._terms(self.back, self.there, target, source, step)
        return [*there, *back], (targets, sources)

    def _terms(
        self, way: _Direction, opposite: _Direction, source: _Domain, target: _Domain, step: int
    ) -> tuple[list[_Term], Pyramid]:
        """The terms of one direction, which `opposite` undoes, and its predictions; the domains are unpaired."""
        prediction = generate(way.generator.network, source.image)
        # The two are of different places: a discriminator compares them where both have data.
        both = [one.valid for one in (source, target) if one.valid is not None]
        valid = both[0] * both[-1] if both else None
        shown = settled(prediction, target.image, valid)
        terms = self._adversarial(way, source, target._replace(valid=valid), shown, step)
        # Level 0 alone goes back: a generator reads one image, whatever number of levels it writes.
        again = generate(opposite.generator.network, prediction[0])
        terms += self._distance(f"cycle{way.suffix}", 1.0, prediction[0], source, again, step)
        if self.identity:
            same = generate(way.generator.network, target.image)
            terms += self._distance(f"identity{way.suffix}", self.identity, target.image, target, same, step)
        return terms, shown

    def _adversarial(
        self, way: _Direction, source: _Domain, target: _Domain, prediction: Pyramid, step: int
    ) -> list[_Term]:
        inputs = loss_inputs(source.image, target.image, prediction, target.mask, step, valid=target.valid)
        source_shown = _no_source(prediction)
        with way.discriminator.frozen() as network:
            # For relativistic losses, which compare the two; the real image has nothing to give the generator.
            with torch.no_grad():
                real = discriminate(network, inputs.target, source_shown)
            inputs = replace(inputs, real=real, fake=discriminate(network, prediction, source_shown))
        return [_Term(f"{name}{way.suffix}", self.weight(name, step), name, inputs) for name in self.adversarial]

    def _distance(
        self, kind: str, share: float, read: Tensor, target: _Domain, written: Pyramid, step: int
    ) -> list[_Term]:
        """The terms that compare what a generator wrote with the image that it should have written."""
        written = settled(written, target.image, target.valid)
        inputs = loss_inputs(read, target.image, written, target.mask, step, valid=target.valid)
        return [_Term(f"{name}_{kind}", share * self.weight(name, step), name, inputs) for name in self.distances]

    def _update_discriminator(
        self, way: _Direction, targets: list[Tensor], predictions: list[Pyramid], step: int, *, over_batch: bool
    ) -> dict[str, Tensor]:
        discriminator, values = way.discriminator, ChunkMeans(len(targets))
        discriminator.clear()
        # Both directions draw alike at a step; that is harmless, since each has a pool of its own.
        pairs = [
            (target, way.pool.exchange(fresh, step * len(targets) + index))
            for index, (target, fresh) in enumerate(zip(targets, predictions, strict=True))
        ]
        known: list[LossInputs] = []
        if over_batch:
            with torch.no_grad():
                known = [_judged(discriminator.network, *pair, step) for pair in pairs]
        for index, pair in enumerate(pairs):
            inputs = beside(_judged(discriminator.network, *pair, step), known, index)
            found = (discriminator_term(self.losses[name], inputs) for name in self.adversarial)
            terms = [term for term in found if term is not None]
            if not terms:
                return {}
            total = torch.stack(terms).sum()
            backward(total / len(targets), [discriminator], last=index == len(targets) - 1)
            values.add({discriminator.name: total})
        return values.means() | discriminator.update(self.clip_norm)


def _judged(network: nn.Module, target: Tensor, shown: Pyramid, step: int) -> LossInputs:
    """A chunk as a discriminator's losses see it."""
    inputs = loss_inputs(target, target, shown, None, step, "discriminator")
    real = discriminate(network, inputs.target, _no_source(shown))
    return replace(inputs, real=real, fake=discriminate(network, shown, _no_source(shown)))


def _no_source(candidate: Pyramid) -> Pyramid:
    """The source of a discriminator that was made for 0 source channels.

    Source and target are of different subjects: one that saw the source would tell a translation by its anatomy.
    """
    return tuple(level[:, :0] for level in candidate)
