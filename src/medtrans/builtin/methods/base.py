"""A network with its optimiser, and what every method does with the networks that it trains."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from medtrans import Method, Parts
from medtrans.builtin.losses import full_precision
from medtrans.types import Batch, DiscriminatorOutput, LossInputs, Pyramid, as_pyramid, pyramid, whole_batch

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from torch.optim import Optimizer

__all__ = [
    "ChunkMeans",
    "GeneratorMethod",
    "ImagePool",
    "TrainedNetwork",
    "WeightAverage",
    "accuracy",
    "backward",
    "beside",
    "discriminate",
    "discriminator_term",
    "evaluating",
    "generate",
    "loss_inputs",
    "loss_term",
    "settled",
]


class TrainedNetwork:
    """A network with its optimiser, alone or in Fabric's hands.

    Args:
        parts: make the optimiser and give the schedule.
        role: "generator" or "discriminator".
        bare: the network itself.
        name: of its scalars; None takes the role.

    Attributes:
        network: what a training step calls: the network itself, or Fabric's wrapper around it.
    """

    def __init__(self, parts: Parts, role: str, bare: nn.Module, *, name: str | None = None) -> None:
        self.parts, self.role, self.bare, self.name = parts, role, bare, name or role
        self.network = bare
        self.base_rates: tuple[float, ...] = ()
        self.fabric: Fabric | None = None

    @cached_property
    def optimizer(self) -> Optimizer:
        """Made when it is first asked for: to translate needs none, and torch takes two seconds to make its first."""
        optimizer = self.parts.make_optimizer(self.bare.parameters(), self.role)
        self.base_rates = tuple(group["lr"] for group in optimizer.param_groups)
        return optimizer

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

        With 16-mixed it does not: gradients that overflow are no fault there, the step is left out and, once all
        networks are updated (`GeneratorMethod.end`), the scale lowered.
        """
        norm = self._clip(clip_norm)
        scaler = scaler_of(self.fabric)
        if scaler is None:
            self.optimizer.step()
            return {f"{self.name}_gradient_norm": norm.detach()}
        # Fabric's own step would move the scale, which gradients of other networks may still be multiplied by.
        bare: Any = self.optimizer
        scaler.step(bare.optimizer)
        return {}

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


def backward(total: Tensor, networks: Sequence[TrainedNetwork], *, last: bool = True) -> None:
    """Gradients of `total` for all the networks; ranks exchange them with the `last` of a step only."""
    fabric = networks[0].fabric
    if fabric is None:
        torch.autograd.backward(total)
        return
    with ExitStack() as waiting:
        for one in networks:
            wrapped: Any = one.network  # setup has put Fabric's wrapper around it
            waiting.enter_context(fabric.no_backward_sync(wrapped, enabled=not last))
        fabric.backward(total)


def scaler_of(fabric: Fabric | None) -> torch.amp.GradScaler | None:
    """What scales losses in 16-mixed; None in any other precision."""
    return None if fabric is None else getattr(fabric.strategy.precision, "scaler", None)


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


class WeightAverage:
    """A copy of a network whose weights follow the trained ones slowly; an update keeps the share `decay` of them.

    Early on the average follows faster, by `min(decay, (1 + n) / (10 + n))` after n updates, so that it does not
    remember the random start.
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


class ImagePool:
    """Shows the discriminator an older prediction half of the time (Shrivastava et al. 2017, as CycleGAN uses it).

    Several ranks keep one pool: each holds a copy and swaps the whole batch in the same way, so that they show what one
    rank with the whole batch would show, and a checkpoint of one is a checkpoint of all.

    Args:
        size: predictions kept; 0 shows only fresh ones.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.kept: list[tuple[Tensor, ...]] = []

    def restore(self, kept: Iterable[Iterable[Tensor]], device: torch.device) -> None:
        """Hold these images instead, on a device."""
        self.kept = [tuple(image.to(device) for image in images) for images in kept]

    def exchange(self, predictions: Pyramid, step: int) -> Pyramid:
        """Fresh predictions with some swapped for older ones; the draw depends on the step alone."""
        if self.size == 0:
            return predictions
        draw = torch.Generator().manual_seed(step)
        gathered = [whole_batch(level) for level in predictions]
        (whole, mine), levels = gathered[0], [level for level, _ in gathered]
        shown = [self._one(tuple(level[index] for level in levels), draw) for index in range(len(whole))]
        return tuple(torch.stack(level) for level in zip(*shown[mine], strict=True))

    def _one(self, fresh: tuple[Tensor, ...], draw: torch.Generator) -> tuple[Tensor, ...]:
        if len(self.kept) < self.size:
            self.kept.append(tuple(level.clone() for level in fresh))
            return fresh
        if torch.rand((), generator=draw) < 0.5:
            return fresh
        index = int(torch.randint(self.size, (), generator=draw))
        older, self.kept[index] = self.kept[index], tuple(level.clone() for level in fresh)
        return older


class GeneratorMethod(Method):
    """Base of methods that train a generator, alone or among other networks, each with an optimiser of its own.

    Args:
        parts: what the engine hands over.
        clip_norm: gradients of a network are scaled down to this norm; None does not clip.

    Attributes:
        generator: the one that translates.
        average: the running average of its weights, which validation and prediction then use; None for none.
        losses: the modules by name.
    """

    generator: TrainedNetwork

    def __init__(self, parts: Parts, *, clip_norm: float | None) -> None:
        self.parts, self.clip_norm = parts, clip_norm
        self.losses = nn.ModuleDict({name: loss.module for name, loss in parts.losses.items()})
        self.average: WeightAverage | None = None
        self.fabric: Fabric | None = None

    @abstractmethod
    def trained(self) -> tuple[TrainedNetwork, ...]:
        """All networks that a step updates."""

    @abstractmethod
    def pools(self) -> tuple[ImagePool, ...]:
        """The pools of past predictions."""

    def networks(self) -> dict[str, nn.Module]:
        """What is trained, by name, and as `generator_average` the average where there is one."""
        found = {one.name: one.bare for one in self.trained()}
        return found if self.average is None else {**found, "generator_average": self.average.network}

    def setup(self, fabric: Fabric) -> None:
        """Hand networks and optimisers to Fabric."""
        self.fabric = fabric
        for one in self.trained():
            one.setup(fabric)
        for pool in self.pools():
            pool.restore(pool.kept, fabric.device)
        fabric.strategy.precision.convert_module(self.losses.to(fabric.device))
        if self.average is not None:
            self.average.network.to(fabric.device)

    def begin(self, step: int) -> None:
        """Train mode, and the learning rates of this step."""
        for one in self.trained():
            one.begin(step)

    def end(self) -> dict[str, Tensor]:
        """Move the average, and in 16-mixed the scale, once all networks are updated; gives the learning rate."""
        if (scaler := scaler_of(self.fabric)) is not None:
            scaler.update()
        if self.average is not None:
            self.average.update(self.generator.bare)
        return {"learning_rate": torch.as_tensor(self.generator.optimizer.param_groups[0]["lr"])}

    def over_batch(self, chunks: Sequence[Batch]) -> bool:
        """Whether some loss needs all chunks at once to give the gradient of the whole batch."""
        valid = next((one for one in (chunks[0].valid, chunks[0].target_valid) if one is not None), None)
        return len(chunks) > 1 and not all(_averages_cases(loss, valid) for loss in self.losses.values())

    def weight(self, name: str, step: int) -> float:
        """What a loss's term is multiplied by at a step."""
        return self.parts.losses[name].weight_at(step, self.parts.epoch_steps)

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
        """Optimisers and the average's count."""
        return {
            "optimizers": {one.name: one.optimizer.state_dict() for one in self.trained()},
            "average_updates": 0 if self.average is None else self.average.updates,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what `state_dict` gave."""
        for one in self.trained():
            # A copy: torch may keep, and later change, the tensors that it is handed.
            one.optimizer.load_state_dict(copy.deepcopy(dict(state["optimizers"][one.name])))
        if self.average is not None:
            self.average.updates = int(state["average_updates"])


def loss_inputs(
    source: Tensor,
    target: Tensor,
    prediction: Pyramid,
    mask: Tensor | None,
    step: int,
    phase: Literal["generator", "discriminator"] = "generator",
    valid: Tensor | None = None,
) -> LossInputs:
    """The inputs of losses before a discriminator has seen them: source and target at each level of the prediction."""
    levels = len(prediction)
    sources, targets = pyramid(source, levels), pyramid(target, levels)
    mask = mask if mask is None or valid is None else mask * valid
    return LossInputs(sources, targets, prediction, mask, None, None, step, phase, valid)


def loss_term(loss: nn.Module, inputs: LossInputs) -> Tensor:
    """The generator's term of a loss; see `in_batch`."""
    value: Tensor = in_batch(loss, loss, inputs)
    return value


def discriminator_term(loss: nn.Module, inputs: LossInputs) -> Tensor | None:
    """The discriminator's term of a loss, None where it has none; see `in_batch`."""
    own: Callable[[LossInputs], Tensor | None] | None = getattr(loss, "discriminator_loss", None)
    return None if own is None else in_batch(loss, own, inputs)


_Term = TypeVar("_Term", Tensor, Tensor | None)


def in_batch(loss: nn.Module, term: Callable[[LossInputs], _Term], inputs: LossInputs) -> _Term:
    """A loss's term whose gradients, meant over the chunks of a batch, are those of the whole batch.

    A loss that is no mean over cases is asked of the whole batch, of which this chunk alone has a graph: the gradients
    of all chunks then add up to that of the whole, whatever the loss computes over the batch.
    """
    others = len(inputs.before) + len(inputs.after)
    if not others or _averages_cases(loss, inputs.valid):
        return term(inputs)
    value = term(inputs.whole)
    # The value is that of the whole batch; its gradient, of this chunk's share, has to stand the mean over chunks.
    return value if value is None else value + others * (value - value.detach())


def _averages_cases(loss: nn.Module, valid: Tensor | None) -> bool:
    stated = getattr(loss, "averages_cases", None)
    return stated is not None and bool(stated(valid))


def beside(inputs: LossInputs, known: Sequence[LossInputs], index: int) -> LossInputs:
    """Chunk `index` of a batch whose chunks, without graph, are `known`; itself where none are."""
    return replace(inputs, before=tuple(known[:index]), after=tuple(known[index + 1 :]))


def settled(prediction: Pyramid, target: Tensor, valid: Tensor | None) -> Pyramid:
    """A prediction with the target in its place where there are no data, at each level.

    Both are alike there for every loss and every discriminator, whether they know of masks or not, and no gradient
    comes from there.
    """
    if valid is None:
        return prediction
    levels = len(prediction)
    known = zip(prediction, pyramid(target, levels), pyramid(valid, levels), strict=True)
    return tuple(torch.where(inside > 0, made, true.to(made.dtype)) for made, true, inside in known)


def discriminate(discriminator: nn.Module, candidate: Pyramid, source: Pyramid) -> DiscriminatorOutput:
    """A discriminator's output for a candidate, at least in float32."""
    output = discriminator(candidate, source)
    return DiscriminatorOutput(
        tuple(full_precision(logit) for logit in output.logits),
        tuple(tuple(full_precision(feature) for feature in scale) for scale in output.features),
    )


def accuracy(real: DiscriminatorOutput, fake: DiscriminatorOutput) -> Tensor:
    """Share of places at which the target looks more real to the discriminator than the prediction; 0.5 is guessing."""
    pairs = zip(real.logits, fake.logits, strict=True)
    shares = [(one > other).float().mean() + (one == other).float().mean() / 2 for one, other in pairs]
    return torch.stack(shares).mean()


def generate(generator: nn.Module, source: Tensor) -> Pyramid:
    """The levels a generator gives for a source, at least in float32."""
    return tuple(full_precision(level) for level in as_pyramid(generator(source)))


class ChunkMeans:
    """Means of scalars over `count` chunks, without waiting for the device."""

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
