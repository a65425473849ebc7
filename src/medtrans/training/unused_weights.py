"""Weights that no loss reaches: one device trains around them, several ranks wait for their gradients in vain."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import nn

from medtrans.errors import SetupError
from medtrans.utils.messages import listed

__all__ = ["refuse_unused_weights"]


@contextmanager
def refuse_unused_weights(networks: Mapping[str, nn.Module]) -> Iterator[None]:
    """Watch a training step; a network of which it trains some weights, but not all, is a fault.

    Raises:
        SetupError: with the names of the weights.
    """
    trained = {
        name: {key: one for key, one in network.named_parameters() if one.requires_grad}
        for name, network in networks.items()
    }
    reached: set[int] = set()

    def note(parameter: nn.Parameter) -> None:
        reached.add(id(parameter))

    hooks = [
        parameter.register_post_accumulate_grad_hook(note)  # type: ignore[no-untyped-call]  # torch leaves it untyped
        for weights in trained.values()
        for parameter in weights.values()
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
    faults = []
    for name, weights in trained.items():
        missed = [f"{name}.{key}" for key, parameter in weights.items() if id(parameter) not in reached]
        if missed and len(missed) < len(weights):
            faults.append(
                f"no loss reaches {listed(missed)} ({len(missed)} of {len(weights)} weights of the {name}), and "
                "several ranks cannot train a network in part: let a loss look at all that it gives, take these parts "
                "out, or freeze them (requires_grad_(False))"
            )
    if faults:
        raise SetupError(*faults)
