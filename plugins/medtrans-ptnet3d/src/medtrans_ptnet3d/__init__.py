"""The list of what this package offers; the parts themselves are imported when a config names them."""

from __future__ import annotations

from medtrans import Component, hookimpl

__all__ = ["PLUGIN_API", "medtrans_discriminators", "medtrans_generators", "medtrans_losses"]

PLUGIN_API = "1.0"


@hookimpl
def medtrans_generators() -> list[Component]:
    """PTNet3D."""
    return [
        Component(
            "ptnet3d",
            "medtrans_ptnet3d.ptnet3d:PTNet3D",
            trial={"options": {"width": 4, "depth": 1, "heads": 2, "global_depth": 1}, "unused": ["unused.*"]},
        )
    ]


@hookimpl
def medtrans_discriminators() -> list[Component]:
    """The discriminator it is trained against."""
    return [
        Component(
            "multiscale_patchgan",
            "medtrans_ptnet3d.multiscale_patchgan:MultiscalePatchGAN",
            trial={"options": {"ndf": 2}},
        )
    ]


@hookimpl
def medtrans_losses() -> list[Component]:
    """Comparisons of features: of the discriminator, and of a video network."""
    return [
        Component(
            "feature_matching",
            "medtrans_ptnet3d.feature_matching:FeatureMatching",
            trial={
                "symmetric": True,
                "excused": {"trains the discriminator": "it reads features; a loss beside it trains them"},
            },
        ),
        Component(
            "video_perceptual",
            "medtrans_ptnet3d.video_perceptual:VideoPerceptual",
            trial={
                "symmetric": True,
                "excused": {"leads a gradient to the prediction": "it is 0 without weights, which come as a file"},
            },
        ),
    ]
