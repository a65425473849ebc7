"""The list of TorchIO's random transforms; it comes as a plugin of its own, `torchio`."""

from __future__ import annotations

import re

from medtrans import Component, hookimpl

PLUGIN_API = "1.0"

SPATIAL = ("RandomAffine", "RandomElasticDeformation", "RandomAffineElasticDeformation", "RandomFlip")
INTENSITY = (
    "RandomNoise", "RandomGamma", "RandomBiasField", "RandomBlur", "RandomMotion", "RandomGhosting", "RandomSpike",
    "RandomAnisotropy",
)  # fmt: skip


@hookimpl
def medtrans_transforms() -> list[Component]:
    """Augmentations of training patches: `RandomAffine` as `random_affine`, and so on."""
    return [
        Component(re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower(), f"medtrans.builtin.augmentations.torchio:{name}")
        for name in (*SPATIAL, *INTENSITY)
    ]
