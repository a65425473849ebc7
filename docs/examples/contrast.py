"""An augmentation that changes the contrast of the source."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field
from torch import Tensor

from medtrans import Augmentation, Component, hookimpl

__all__ = ["Contrast"]

PLUGIN_API = "1.0"


class Contrast(Augmentation):
    """Raise the source's intensities to a random power, so that contrast changes and [0, 1] stays [0, 1].

    Args:
        strength: the power is drawn between 1 / (1 + strength) and 1 + strength.
    """

    intensity: ClassVar[bool] = True  # it is shown the source only

    def __init__(self, *, strength: Annotated[float, Field(gt=0)] = 0.3) -> None:
        self.strength = strength

    def __call__(self, patches: Mapping[str, Tensor], rng: np.random.Generator) -> dict[str, Tensor]:
        """Change the patches `(c, i, j, k)`; every draw comes from `rng`."""
        power = (1 + self.strength) ** float(rng.uniform(-1, 1))
        return {name: patch.clamp(0, 1) ** power for name, patch in patches.items()}


@hookimpl
def medtrans_transforms() -> list[Component]:
    """What this plugin offers."""
    return [Component("contrast", Contrast)]
