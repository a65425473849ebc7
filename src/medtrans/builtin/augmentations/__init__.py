"""Owns the list of TorchIO's random transforms; it comes as a plugin of its own, `torchio`."""

from __future__ import annotations

from medtrans import Component, hookimpl

PLUGIN_API = "1.0"

_HOME = "medtrans.builtin.augmentations.torchio"
_OFFERED = {
    "random_affine": "RandomAffine",
    "random_elastic_deformation": "RandomElasticDeformation",
    "random_affine_elastic_deformation": "RandomAffineElasticDeformation",
    "random_flip": "RandomFlip",
    "random_noise": "RandomNoise",
    "random_gamma": "RandomGamma",
    "random_bias_field": "RandomBiasField",
    "random_blur": "RandomBlur",
    "random_motion": "RandomMotion",
    "random_ghosting": "RandomGhosting",
    "random_spike": "RandomSpike",
    "random_anisotropy": "RandomAnisotropy",
}


@hookimpl
def medtrans_transforms() -> list[Component]:
    """Augmentations of training patches."""
    return [Component(name, f"{_HOME}:{attribute}") for name, attribute in _OFFERED.items()]
