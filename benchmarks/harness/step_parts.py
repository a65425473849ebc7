"""The parts of a training step, watched from outside: what is at work when, and what that adds up to."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from medtrans.plugins.interfaces import Method, Parts
from medtrans.types import as_pyramid

__all__ = ["OTHER", "Recorder", "Work", "amounts", "losses_of", "recorded", "translating"]


@dataclass(frozen=True)
class Work:
    """What is at work.

    Args:
        kind: "forward", "loss", "backward", "optimiser" or "other".
        name: of the network or the loss; of a backward pass, the network that its gradient has reached, else "".
    """

    kind: str
    name: str = ""


OTHER = Work("other")

Segment: TypeAlias = tuple[Work, Any, Any]
"""What was at work between two moments."""


class Recorder:
    """Notes what is at work from when on.

    Args:
        now: gives a moment: a time, or any count that only grows.
    """

    def __init__(self, now: Callable[[], Any]) -> None:
        self._now = now
        self._stack = [OTHER]
        self._reached: set[str] = set()
        self._marks: list[tuple[Any, Work]] = [(now(), OTHER)]

    def enter(self, work: Work) -> None:
        """Something begins, within what is at work."""
        if work.kind == "backward":
            self._reached.clear()
        self._stack.append(work)
        self._mark()

    def leave(self) -> None:
        """It ends, and what it began within goes on."""
        self._stack.pop()
        self._mark()

    def arrive(self, network: str) -> None:
        """The gradient of a backward pass reaches a network for the first time."""
        if self._stack[-1].kind == "backward" and network not in self._reached:
            self._reached.add(network)
            self._stack[-1] = Work("backward", network)
            self._mark()

    def segments(self) -> list[Segment]:
        """All until now, in order."""
        ends = [moment for moment, _ in self._marks[1:]] + [self._now()]
        return [(work, begun, ended) for (begun, work), ended in zip(self._marks, ends, strict=True)]

    def _mark(self) -> None:
        self._marks.append((self._now(), self._stack[-1]))


def losses_of(method: Method) -> dict[str, nn.Module]:
    """The losses that a method was handed, by name; none of a method that does not keep its parts."""
    parts = getattr(method, "parts", None)
    return {name: loss.module for name, loss in parts.losses.items()} if isinstance(parts, Parts) else {}


@contextmanager
def recorded(method: Method, now: Callable[[], Any]) -> Iterator[Recorder]:
    """Watch a method's networks, losses, backward passes and optimisers while it takes a step."""
    recorder, networks = Recorder(now), method.networks()
    owners = {id(parameter): name for name, network in networks.items() for parameter in network.parameters()}
    with ExitStack() as hooks:
        for name, network in networks.items():
            _follow(hooks, recorder, network, Work("forward", name))
        for name, loss in losses_of(method).items():
            _follow(hooks, recorder, loss, Work("loss", name))
        hooks.callback(
            register_optimizer_step_pre_hook(
                lambda optimizer, *_: recorder.enter(Work("optimiser", _owner(optimizer, owners)))
            ).remove
        )
        hooks.callback(register_optimizer_step_post_hook(lambda *_: recorder.leave()).remove)
        hooks.enter_context(_backward_told(recorder))
        yield recorder


def _follow(hooks: ExitStack, recorder: Recorder, module: nn.Module, work: Work) -> None:
    def ended(_: nn.Module, __: Any, output: Any) -> None:
        recorder.leave()
        if work.kind == "forward":
            for tensor in _tensors(output):
                if tensor.requires_grad:
                    tensor.register_hook(lambda _: recorder.arrive(work.name))

    hooks.callback(module.register_forward_pre_hook(lambda *_: recorder.enter(work)).remove)
    hooks.callback(module.register_forward_hook(ended).remove)


@contextmanager
def _backward_told(recorder: Recorder) -> Iterator[None]:
    # No hook of torch tells when a backward pass begins and ends; every way into one leads through this name.
    real = torch.autograd.backward

    def told(*args: Any, **options: Any) -> None:
        recorder.enter(Work("backward"))
        try:
            real(*args, **options)
        finally:
            recorder.leave()

    torch.autograd.backward = told
    try:
        yield
    finally:
        torch.autograd.backward = real


def _owner(optimizer: Optimizer, owners: dict[int, str]) -> str:
    """The network that an optimiser updates."""
    named = (owners.get(id(one), "") for group in optimizer.param_groups for one in group["params"])
    return next((name for name in named if name), "")


def _tensors(output: Any) -> list[Tensor]:
    """The images or logits that a network gave."""
    if hasattr(output, "logits"):
        return [one for one in output.logits if isinstance(one, Tensor)]
    if isinstance(output, Tensor | tuple | list):
        return [one for one in as_pyramid(output) if isinstance(one, Tensor)]
    return []


def translating(method: Method, source: torch.Tensor) -> set[str]:
    """The networks that translate, and those of their kind, such as an average or the way back; failing that, all."""
    with recorded(method, lambda: 0) as recorder:
        method.translate(source)
    networks = method.networks()
    called = {type(networks[work.name]) for work, *_ in recorder.segments() if work.kind == "forward"}
    return {name for name, network in networks.items() if type(network) in called} or set(networks)


def amounts(
    segments: Sequence[Segment], translators: Collection[str], between: Callable[[Any, Any], float]
) -> dict[str, float]:
    """What each part took of one step, in the order in which they first appear.

    Whatever happens up to an optimiser's step belongs to the update of its network. The update of a network that
    translates is told in parts, that of any other, such as a discriminator, in one row. A forward pass of a network
    that translates has a row of its own wherever it happens, since one may serve several updates.

    Args:
        segments: the watched moments.
        translators: the networks that translate.
        between: the amount from one moment to another.
    """
    found: dict[str, float] = {}
    phase: list[Segment] = []
    for segment in segments:
        phase.append(segment)
        if segment[0].kind == "optimiser":
            _add(found, phase, segment[0].name, translators, between)
            phase = []
    _add(found, phase, "", translators, between)
    return found


def _add(
    found: dict[str, float],
    phase: Sequence[Segment],
    updated: str,
    translators: Collection[str],
    between: Callable[[Any, Any], float],
) -> None:
    for work, begun, ended in phase:
        name = _row(work, updated, translators)
        found[name] = found.get(name, 0.0) + between(begun, ended)


def _row(work: Work, updated: str, translators: Collection[str]) -> str:
    if work.kind == "forward" and work.name in translators:
        return f"{work.name} forward"
    if updated and updated not in translators:
        return f"{updated} update"
    if work == OTHER:
        return "other"
    if work.kind == "optimiser":
        return f"{work.name or 'a'} optimiser"
    if work.kind == "loss":
        return f"loss {work.name}"
    if work.kind == "backward" and work.name in ("", *translators):
        return f"{work.name or 'losses'} backward"
    return f"{work.name} {work.kind} in the update of {updated or 'the rest'}"
