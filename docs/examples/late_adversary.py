"""Training on pairs that lets the adversary in later."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field
from torch import Tensor

from medtrans import Component, PairedMethod, Parts, hookimpl
from medtrans.types import LossInputs

__all__ = ["LateAdversary"]

PLUGIN_API = "1.0"


class LateAdversary(PairedMethod):
    """`paired`, but adversarial losses count from a later step on.

    Args:
        parts: what the engine hands over.
        warmup_steps: steps in which the generator sees no adversarial term; the discriminator learns all the while.
    """

    def __init__(self, parts: Parts, *, warmup_steps: Annotated[int, Field(ge=0)] = 1000, **options: Any) -> None:
        super().__init__(parts, **options)
        self.warmup_steps = warmup_steps

    def generator_losses(self, inputs: LossInputs) -> dict[str, Tensor]:
        """The generator's terms by loss, before their weights."""
        terms = super().generator_losses(inputs)
        if inputs.step >= self.warmup_steps:
            return terms
        return {
            name: 0 * term if getattr(self.losses[name], "adversarial", False) else term for name, term in terms.items()
        }


@hookimpl
def medtrans_methods() -> list[Component]:
    """What this plugin offers; `trial` lets `medtrans plugins test` see both sides of the warm-up."""
    return [Component("late_adversary", LateAdversary, trial={"options": {"warmup_steps": 1}})]
