"""Owns the list of built-in components; they come through the same entry-point group as everybody's."""

from __future__ import annotations

from medtrans import Component, hookimpl

PLUGIN_API = "1.0"


@hookimpl
def medtrans_generators() -> list[Component]:
    """The paper's generator."""
    return [Component("mdaunet", "medtrans.builtin.generators.mdaunet:MDAUNet")]


@hookimpl
def medtrans_discriminators() -> list[Component]:
    """The paper's discriminator."""
    return [Component("multires_unet", "medtrans.builtin.discriminators.multires_unet:MultiResUNet")]


@hookimpl
def medtrans_losses() -> list[Component]:
    """Voxel-wise, perceptual and adversarial losses."""
    return [
        Component("l1", "medtrans.builtin.losses.voxel:L1"),
        Component("l2", "medtrans.builtin.losses.voxel:L2"),
        Component("perceptual_25d", "medtrans.builtin.losses.perceptual_25d:Perceptual25D"),
        Component("relativistic", "medtrans.builtin.losses.adversarial:Relativistic"),
        Component("lsgan", "medtrans.builtin.losses.adversarial:LSGAN"),
        Component("bce", "medtrans.builtin.losses.adversarial:BCE"),
    ]


@hookimpl
def medtrans_datasets() -> list[Component]:
    """The phantom, general layouts and those of published collections."""
    return [
        Component("phantom", "medtrans.builtin.datasets.phantom:Phantom"),
        Component("paired_folders", "medtrans.builtin.datasets.paired_folders:PairedFolders"),
        Component("table", "medtrans.builtin.datasets.table:Table"),
        Component("bids", "medtrans.builtin.datasets.bids:BIDS"),
        Component("synthrad2023", "medtrans.builtin.datasets.synthrad2023:SynthRAD2023"),
        Component("synthrad2025", "medtrans.builtin.datasets.synthrad2025:SynthRAD2025"),
        Component("brats", "medtrans.builtin.datasets.brats:BraTS"),
        Component("ixi", "medtrans.builtin.datasets.ixi:IXI"),
        Component("hcp", "medtrans.builtin.datasets.hcp:HCP"),
        Component("dhcp", "medtrans.builtin.datasets.dhcp:DHCP"),
    ]


@hookimpl
def medtrans_metrics() -> list[Component]:
    """Image quality of whole volumes."""
    return [
        Component("psnr", "medtrans.builtin.metrics.psnr:PSNR"),
        Component("ssim", "medtrans.builtin.metrics.ssim:SSIM"),
        Component("nmse", "medtrans.builtin.metrics.nmse:NMSE"),
        Component("mae", "medtrans.builtin.metrics.mae:MAE"),
    ]


@hookimpl
def medtrans_methods() -> list[Component]:
    """Training on registered pairs."""
    return [Component("paired", "medtrans.builtin.methods.paired:PairedMethod")]


@hookimpl
def medtrans_transforms() -> list[Component]:
    """Intensity scalings."""
    return [
        Component("minmax", "medtrans.builtin.transforms.minmax:MinMax"),
        Component("percentile", "medtrans.builtin.transforms.percentile:Percentile"),
        Component("window", "medtrans.builtin.transforms.window:Window"),
    ]


@hookimpl
def medtrans_callbacks() -> list[Component]:
    """Watchers of a run."""
    return [
        Component("progress", "medtrans.builtin.callbacks.progress:Progress"),
        Component("tensorboard", "medtrans.builtin.callbacks.tensorboard:TensorBoard"),
    ]
