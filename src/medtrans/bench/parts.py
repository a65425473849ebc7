"""Owns the parts of a training step: what the watched moments add up to, row by row."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch

from medtrans.bench.recorder import OTHER, Segment, Work, recorded
from medtrans.components import Method

__all__ = ["amounts", "translating"]


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
