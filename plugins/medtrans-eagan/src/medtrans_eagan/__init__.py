"""The list of what Ea-GAN offers (Yu et al., IEEE TMI 38(7), 2019, doi 10.1109/TMI.2019.2895894)."""

from __future__ import annotations

from medtrans import Component, hookimpl

PLUGIN_API = "1.0"


@hookimpl
def medtrans_generators() -> list[Component]:
    """The U-Net that both variants share."""
    small = {"options": {"levels": 5, "width": 2}}
    return [Component("ea_gan", "medtrans_eagan.generator:EaGANGenerator", trial=small)]


@hookimpl
def medtrans_discriminators() -> list[Component]:
    """The discriminator of gEa-GAN, and that of dEa-GAN, which sees edges too."""
    judge = "medtrans_eagan.discriminator:EaGANDiscriminator"
    small = {"options": {"layers": 1, "width": 2}}
    return [
        Component("gea", judge, fixed={"edge_in_discriminator": False}, trial=small),
        Component("dea", judge, fixed={"edge_in_discriminator": True}, trial=small),
    ]


@hookimpl
def medtrans_losses() -> list[Component]:
    """The edge term, and least squares with soft labels."""
    return [
        Component("edge", "medtrans_eagan.edge_loss:EdgeLoss", trial={"symmetric": True}),
        Component("lsgan", "medtrans_eagan.adversarial_loss:SoftLabelLSGAN", trial={"at_identity": 1.0}),
    ]


@hookimpl
def medtrans_methods() -> list[Component]:
    """Training on pairs with the image pool of the published code, for comparison."""
    return [Component("legacy", "medtrans_eagan.legacy_method:LegacyMethod")]
