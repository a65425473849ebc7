"""A translation that changes nothing, so that all that surrounds a network can be held to account."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from medtrans.config.loading import load_config
from medtrans.data.preprocessing import make_preprocessing
from medtrans.inference.translator import Translator
from medtrans.plugins.interfaces import Method

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from medtrans.types import Batch

__all__ = ["identity_translator"]


class _Unchanged(nn.Module):
    """Answers its input; its sides must divide by 4, so that volumes are padded as for a real network."""

    multiple = 4

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Parameter(torch.ones(()))

    def forward(self, source: Tensor) -> Tensor:
        return source * self.one


class _Identity(Method):
    """A method that has learnt nothing."""

    def __init__(self) -> None:
        self.network = _Unchanged()

    def networks(self) -> dict[str, nn.Module]:
        return {"generator": self.network}

    def setup(self, fabric: Fabric) -> None:
        """There is nothing to train."""

    def training_step(self, batch: Batch, step: int) -> dict[str, Tensor]:
        return {}

    def translate(self, source: Tensor) -> Tensor:
        with torch.no_grad():
            answered: Tensor = self.network(source)
            return answered.clamp(0, 1)

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """There is no state."""


def identity_translator(folder: Path, *, window: tuple[float, float], crop: str = "foreground") -> Translator:
    """The whole way from file to file, overlapping windows included, with an identity for a network.

    Args:
        folder: that the config names.
        window: of intensities, the same for source and target.
        crop: box that is kept.
    """
    scaling = {"name": "window", "options": {"range": list(window)}}
    experiment = load_config(
        [
            {
                "output_dir": str(folder / "run"),
                "dataset": {"name": "phantom"},
                "source": ["cbct"],
                "target": ["ct"],
                "preprocess": {"intensity": {"cbct": scaling, "ct": scaling}, "crop": crop},
                "patch": {"size": [12, 12, 12]},
                "discriminator": None,
                "losses": {"l1": {}},
                "train": {"best": None},
                "inference": {"overlap": 0.5, "batch": 8},
            }
        ]
    )
    return Translator(experiment, _Identity(), make_preprocessing(experiment), {})
