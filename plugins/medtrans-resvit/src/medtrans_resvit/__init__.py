"""The list of what this package offers; the parts themselves are imported when a config names them."""

from __future__ import annotations

from medtrans import Component, hookimpl

__all__ = ["PLUGIN_API", "medtrans_discriminators", "medtrans_generators"]

PLUGIN_API = "1.0"

SMALL = {"ngf": 4, "blocks": 2}
"""Options under which the conformance kit tries the generators."""

TRANSFORMER = {"transformers": [1, 2], "dim": 8, "depth": 1, "heads": 2, "embed_channels": 8}
"""Further ones of `resvit`."""


@hookimpl
def medtrans_generators() -> list[Component]:
    """ResViT, and the network it is trained from."""
    return [
        Component(
            "resvit",
            "medtrans_resvit.resvit:ResViT",
            # Four tokens a slice: over one alone attention has nothing to learn.
            trial={"options": {**SMALL, **TRANSFORMER}, "patch_size": (32, 32, 2)},
        ),
        Component("res_cnn", "medtrans_resvit.res_cnn:ResCNN", trial={"options": SMALL, "patch_size": (32, 32, 2)}),
    ]


@hookimpl
def medtrans_discriminators() -> list[Component]:
    """The discriminator both are trained against, and the one that sees single voxels."""
    return [
        Component(
            "patchgan",
            "medtrans_resvit.patchgan:PatchGAN2D",
            trial={"options": {"ndf": 2}, "patch_size": (32, 32, 2)},
        ),
        Component(
            "pixelgan",
            "medtrans_resvit.patchgan:PixelGAN2D",
            trial={"options": {"ndf": 2}, "patch_size": (16, 16, 2)},
        ),
    ]
