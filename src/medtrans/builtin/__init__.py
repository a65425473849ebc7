"""Owns the list of built-in components; they come through the same entry-point group as everybody's."""

from __future__ import annotations

from math import inf, log

from medtrans import Component, hookimpl

PLUGIN_API = "1.0"

_UNITS, _ORDER = "means the same in native units", "prefers the better prediction"
_MASK, _LABELS = "looks inside the mask only", "it compares label maps, and noise holds hardly a voxel of the label"
_OF_A_NUMBER = ("gives a number", _ORDER, _MASK, _UNITS, "leaves all as it was")
"""Rules of the conformance kit that metrics cannot be held to that need more than two volumes."""


@hookimpl
def medtrans_generators() -> list[Component]:
    """The paper's generator, and the plain U-Net that every study needs beside it."""
    return [
        Component("mdaunet", "medtrans.builtin.generators.mdaunet:MDAUNet", trial={"options": {"preset": "tiny"}}),
        Component("unet", "medtrans.builtin.generators.unet:UNet", trial={"options": {"width": 2, "levels": 2}}),
    ]


@hookimpl
def medtrans_discriminators() -> list[Component]:
    """The paper's discriminator, and pix2pix's."""
    return [
        Component(
            "multires_unet",
            "medtrans.builtin.discriminators.multires_unet:MultiResUNet",
            trial={"options": {"width": 2, "convs": 1}},
        ),
        Component(
            "patchgan",
            "medtrans.builtin.discriminators.patchgan:PatchGAN",
            trial={"options": {"width": 4, "layers": 1}},
        ),
    ]


@hookimpl
def medtrans_losses() -> list[Component]:
    """Voxel-wise, perceptual and adversarial losses, and those of a segmentation."""
    undecided = 2 * log(2)  # of two scales, where the discriminator cannot tell
    scores = {"prediction_channels": 3, "at_identity": "unknown"}
    shallow = {"weights": "random", "taps": ["relu1_2"], "slices_per_view": 3}
    return [
        Component("l1", "medtrans.builtin.losses.voxel:L1", trial={"symmetric": True}),
        Component("l2", "medtrans.builtin.losses.voxel:L2", trial={"symmetric": True}),
        Component(
            "perceptual_25d",
            "medtrans.builtin.losses.perceptual_25d:Perceptual25D",
            trial={"options": shallow, "patch_size": (8, 8, 8)},
        ),
        Component("relativistic", "medtrans.builtin.losses.adversarial:Relativistic", trial={"at_identity": undecided}),
        Component("lsgan", "medtrans.builtin.losses.adversarial:LSGAN", trial={"at_identity": 1.0}),
        Component("bce", "medtrans.builtin.losses.adversarial:BCE", trial={"at_identity": undecided}),
        Component("soft_dice", "medtrans.builtin.losses.segmentation:SoftDice", trial=scores),
        Component("cross_entropy", "medtrans.builtin.losses.segmentation:CrossEntropy", trial=scores),
    ]


@hookimpl
def medtrans_datasets() -> list[Component]:
    """The phantom, general layouts and those of published collections."""
    return [
        Component(
            "phantom",
            "medtrans.builtin.datasets.phantom:Phantom",
            trial={"options": {"size": [16, 16, 16], "subjects": 3}},
        ),
        Component("paired_folders", "medtrans.builtin.datasets.paired_folders:PairedFolders"),
        Component("table", "medtrans.builtin.datasets.table:Table"),
        Component("bids", "medtrans.builtin.datasets.bids:BIDS"),
        Component("synthrad2023", "medtrans.builtin.datasets.synthrad:SynthRAD2023"),
        Component("synthrad2025", "medtrans.builtin.datasets.synthrad:SynthRAD2025"),
        Component("brats", "medtrans.builtin.datasets.brats:BraTS"),
        Component("ixi", "medtrans.builtin.datasets.ixi:IXI"),
        Component("hcp", "medtrans.builtin.datasets.hcp:HCP"),
        Component("dhcp", "medtrans.builtin.datasets.hcp:DHCP"),
    ]


@hookimpl
def medtrans_metrics() -> list[Component]:
    """Image quality of whole volumes."""
    return [
        Component("psnr", "medtrans.builtin.metrics.voxelwise:PSNR", trial={"identical": inf}),
        Component("ssim", "medtrans.builtin.metrics.ssim:SSIM", trial={"identical": 1.0}),
        Component("nmse", "medtrans.builtin.metrics.voxelwise:NMSE", trial={"identical": 0.0}),
        Component("mae", "medtrans.builtin.metrics.voxelwise:MAE", trial={"identical": 0.0}),
        Component("mse", "medtrans.builtin.metrics.voxelwise:MSE", trial={"identical": 0.0}),
        Component("rmse", "medtrans.builtin.metrics.voxelwise:RMSE", trial={"identical": 0.0}),
        Component("ncc", "medtrans.builtin.metrics.voxelwise:NCC", trial={"identical": 1.0}),
        Component(
            "ms_ssim",
            "medtrans.builtin.metrics.ssim:MSSSIM",
            trial={"options": {"levels": 2}, "identical": 1.0},
        ),
        Component(
            "ssim_synthrad2023",
            "medtrans.builtin.metrics.ssim:SynthRADSSIM",
            trial={"options": {"range": [0.0, 1.0]}, "identical": 1.0, "excused": {_UNITS: "its range is in HU"}},
        ),
        Component(
            "perceptual_distance",
            "medtrans.builtin.metrics.perceptual:PerceptualDistance",
            trial={"options": {"weights": "random", "taps": ["relu1_1"]}, "identical": 0.0},
        ),
        Component("lpips", "medtrans.builtin.metrics.perceptual:LPIPS", trial={"identical": 0.0}),
        Component(
            "slice_consistency",
            "medtrans.builtin.metrics.consistency:SliceConsistency",
            trial={"identical": 0.0, "excused": {_ORDER: "noise is as rough across slices as within them"}},
        ),
        Component(
            "seam",
            "medtrans.builtin.metrics.consistency:Seam",
            trial={"excused": dict.fromkeys(_OF_A_NUMBER, "it is NaN where nothing can be translated again")},
        ),
        Component(
            "mae_by_label",
            "medtrans.builtin.metrics.regions:MAEByLabel",
            trial={
                "options": {"labels": {"bone": 1}},
                "excused": dict.fromkeys(_OF_A_NUMBER, "it is NaN without a label map"),
            },
        ),
        Component(
            "mae_by_hu",
            "medtrans.builtin.metrics.regions:MAEByHU",
            trial={"identical": 0.0, "excused": {_UNITS: "its classes are in HU"}},
        ),
        Component(
            "dose_mae",
            "medtrans.builtin.metrics.dose:DoseMAE",
            trial={"options": {"prescribed_gy": 0.5}, "identical": 0.0, "excused": {_UNITS: "it compares with Gy"}},
        ),
        Component(
            "dose_dvh",
            "medtrans.builtin.metrics.dose:DoseDVH",
            trial={
                "options": {"prescribed_gy": 0.5, "ptv": 1},
                "excused": dict.fromkeys(_OF_A_NUMBER, "it is NaN without a map of structures"),
            },
        ),
        Component(
            "dice",
            "medtrans.builtin.metrics.segmentation:Dice",
            trial={"options": {"label": 1}, "identical": 1.0, "excused": dict.fromkeys((_MASK, _UNITS), _LABELS)},
        ),
        Component(
            "hd95",
            "medtrans.builtin.metrics.segmentation:HD95",
            trial={"options": {"label": 1}, "excused": {_MASK: _LABELS}},
        ),
    ]


@hookimpl
def medtrans_methods() -> list[Component]:
    """Training on registered pairs, images or labels from images, and without pairs."""
    return [
        Component("paired", "medtrans.builtin.methods.paired:PairedMethod"),
        Component(
            "segmentation",
            "medtrans.builtin.methods.segmentation:SegmentationMethod",
            trial={
                "options": {"classes": 2},
                "losses": {"cross_entropy": "cross_entropy"},
                "discriminator": False,
            },
        ),
        Component(
            "cycle",
            "medtrans.builtin.methods.cycle:CycleMethod",
            # The identity terms need as many sources as targets, and methods are tried with other numbers too.
            trial={"options": {"identity": 0.0, "pool_size": 2, "ema": 0.5}},
        ),
    ]


@hookimpl
def medtrans_transforms() -> list[Component]:
    """Intensity scalings, and that of label maps."""
    return [
        Component(
            "labels",
            "medtrans.builtin.transforms.labels:Labels",
            trial={
                "options": {"classes": {"bone": [1]}},
                "between": (0.0, 1.0),
                "excused": {"says what its numbers mean": "all of an image may be in no class, and that is meant"},
            },
        ),
        Component("minmax", "medtrans.builtin.transforms.linear:MinMax"),
        Component("nyul", "medtrans.builtin.transforms.nyul:Nyul"),
        Component("percentile", "medtrans.builtin.transforms.linear:Percentile"),
        Component("window", "medtrans.builtin.transforms.linear:Window", trial={"between": (-1000.0, 2900.0)}),
        Component("zscore", "medtrans.builtin.transforms.linear:ZScore"),
    ]


@hookimpl
def medtrans_callbacks() -> list[Component]:
    """Watchers of a run."""
    return [
        Component("progress", "medtrans.builtin.callbacks.progress:Progress"),
        Component("tensorboard", "medtrans.builtin.callbacks.tensorboard:TensorBoard"),
    ]
