"""The list of built-in components; they come through the same entry-point group as everybody's."""

from __future__ import annotations

from math import inf, log
from typing import Any

from medtrans import Component, hookimpl

PLUGIN_API = "1.0"

_UNITS, _ORDER = "means the same in native units", "prefers the better prediction"
_MASK, _LABELS = "looks inside the mask only", "it compares label maps, and noise holds hardly a voxel of the label"
_OF_A_NUMBER = ("gives a number", _ORDER, _MASK, _UNITS, "leaves all as it was")
"""Rules of the conformance kit that metrics cannot be held to that need more than two volumes."""


def _component(name: str, path: str, **trial: Any) -> Component:
    """A component at `module:attribute` below this package, and the settings of its trial."""
    return Component(name, f"medtrans.builtin.{path}", trial=trial)


@hookimpl
def medtrans_generators() -> list[Component]:
    """The paper's generator, and the plain U-Net that every study needs beside it."""
    return [
        _component("mdaunet", "generators.mdaunet:MDAUNet", options={"preset": "tiny"}),
        _component("unet", "generators.unet:UNet", options={"width": 2, "levels": 2}),
    ]


@hookimpl
def medtrans_discriminators() -> list[Component]:
    """The paper's discriminator, and pix2pix's."""
    return [
        _component("multires_unet", "discriminators:MultiResUNet", options={"width": 2, "convs": 1}),
        _component("patchgan", "discriminators:PatchGAN", options={"width": 4, "layers": 1}),
    ]


@hookimpl
def medtrans_losses() -> list[Component]:
    """Voxel-wise, perceptual and adversarial losses, and those of a segmentation."""
    undecided = 2 * log(2)  # of two scales, where the discriminator cannot tell
    scores = {"prediction_channels": 3, "at_identity": "unknown"}
    shallow = {"weights": "random", "taps": ["relu1_2"], "slices_per_view": 3}
    return [
        _component("l1", "losses.voxel:L1", symmetric=True),
        _component("l2", "losses.voxel:L2", symmetric=True),
        _component("perceptual_25d", "losses.perceptual_25d:Perceptual25D", options=shallow, patch_size=(8, 8, 8)),
        _component("relativistic", "losses.adversarial:Relativistic", at_identity=undecided),
        _component("lsgan", "losses.adversarial:LSGAN", at_identity=1.0),
        _component("bce", "losses.adversarial:BCE", at_identity=undecided),
        _component("soft_dice", "losses.segmentation:SoftDice", **scores),
        _component("cross_entropy", "losses.segmentation:CrossEntropy", **scores),
    ]


@hookimpl
def medtrans_datasets() -> list[Component]:
    """The phantom, general layouts and those of published collections."""
    return [
        _component("phantom", "datasets.phantom:Phantom", options={"size": [16, 16, 16], "subjects": 3}),
        _component("paired_folders", "datasets.paired_folders:PairedFolders"),
        _component("table", "datasets.table:Table"),
        _component("bids", "datasets.bids:BIDS"),
        _component("synthrad2023", "datasets.synthrad:SynthRAD2023"),
        _component("synthrad2025", "datasets.synthrad:SynthRAD2025"),
        _component("brats", "datasets.brats:BraTS"),
        _component("ixi", "datasets.ixi:IXI"),
        _component("hcp", "datasets.hcp:HCP"),
        _component("dhcp", "datasets.hcp:DHCP"),
    ]


@hookimpl
def medtrans_metrics() -> list[Component]:
    """Image quality of whole volumes."""
    dose, untrained = {"prescribed_gy": 0.5}, {"weights": "random", "taps": ["relu1_1"]}
    rough = {_ORDER: "noise is as rough across slices as within them"}
    in_hu, in_gy = {_UNITS: "its limits are in HU"}, {_UNITS: "its limit is in Gy"}
    windows = dict.fromkeys(_OF_A_NUMBER, "it is NaN where nothing can be translated again")
    regions = dict.fromkeys(_OF_A_NUMBER, "it is NaN without a map of labels or structures")
    overlap = dict.fromkeys((_MASK, _UNITS), _LABELS)
    return [
        _component("psnr", "metrics.voxelwise:PSNR", identical=inf),
        _component("ssim", "metrics.ssim:SSIM", identical=1.0),
        _component("nmse", "metrics.voxelwise:NMSE", identical=0.0),
        _component("mae", "metrics.voxelwise:MAE", identical=0.0),
        _component("mse", "metrics.voxelwise:MSE", identical=0.0),
        _component("rmse", "metrics.voxelwise:RMSE", identical=0.0),
        _component("ncc", "metrics.voxelwise:NCC", identical=1.0),
        _component("ms_ssim", "metrics.ssim:MSSSIM", options={"levels": 2}, identical=1.0),
        _component(
            "ssim_synthrad2023", "metrics.ssim:SynthRADSSIM", options={"range": [0, 1]}, identical=1.0, excused=in_hu
        ),
        _component("perceptual_distance", "metrics.perceptual:PerceptualDistance", options=untrained, identical=0.0),
        _component("lpips", "metrics.perceptual:LPIPS", identical=0.0),
        _component("slice_consistency", "metrics.consistency:SliceConsistency", identical=0.0, excused=rough),
        _component("seam", "metrics.consistency:Seam", excused=windows),
        _component("mae_by_label", "metrics.regions:MAEByLabel", options={"labels": {"bone": 1}}, excused=regions),
        _component("mae_by_hu", "metrics.regions:MAEByHU", identical=0.0, excused=in_hu),
        _component("dose_mae", "metrics.dose:DoseMAE", options=dose, identical=0.0, excused=in_gy),
        _component("dose_dvh", "metrics.dose:DoseDVH", options={**dose, "ptv": 1}, excused=regions),
        _component("dice", "metrics.segmentation:Dice", options={"label": 1}, identical=1.0, excused=overlap),
        _component("hd95", "metrics.segmentation:HD95", options={"label": 1}, excused={_MASK: _LABELS}),
    ]


@hookimpl
def medtrans_methods() -> list[Component]:
    """Training on registered pairs, images or labels from images, and without pairs."""
    return [
        _component("paired", "methods.paired:PairedMethod"),
        _component(
            "segmentation",
            "methods.segmentation:SegmentationMethod",
            options={"classes": 2},
            losses={"cross_entropy": "cross_entropy"},
            discriminator=False,
        ),
        _component("cycle", "methods.cycle:CycleMethod", options={"identity": 0.0, "pool_size": 2, "ema": 0.5}),
    ]


@hookimpl
def medtrans_transforms() -> list[Component]:
    """Intensity scalings, and that of label maps."""
    return [
        _component(
            "labels",
            "transforms:Labels",
            options={"classes": {"bone": [1]}},
            between=(0.0, 1.0),
            excused={"says what its numbers mean": "all of an image may be in no class, and that is meant"},
        ),
        _component("minmax", "transforms:MinMax"),
        _component("nyul", "transforms:Nyul"),
        _component("percentile", "transforms:Percentile"),
        _component("window", "transforms:Window", between=(-1000.0, 2900.0)),
        _component("zscore", "transforms:ZScore"),
    ]


@hookimpl
def medtrans_callbacks() -> list[Component]:
    """Watchers of a run."""
    return [
        _component("progress", "callbacks:Progress"),
        _component("tensorboard", "callbacks:TensorBoard"),
    ]
