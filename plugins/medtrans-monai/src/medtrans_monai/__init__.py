"""The list of what MONAI gives to medtrans; MONAI itself is imported when a component of it is first used."""

from __future__ import annotations

from medtrans import Component, hookimpl

PLUGIN_API = "1.0"

_IN_3D = {"spatial_dims": 3}


@hookimpl
def medtrans_generators() -> list[Component]:
    """Networks that keep the size of what they are given."""
    home = "medtrans_monai.generators"
    one_output = {"deep_supervision": False, "deep_supr_num": 1}
    shallow = {"options": {"channels": [2, 4], "strides": [2]}}
    three_levels = {
        "kernel_size": [3, 3, 3],
        "strides": [1, 2, 2],
        "upsample_kernel_size": [2, 2],
        "filters": [2, 4, 4],
    }
    two_levels = {"blocks_down": [1, 1], "blocks_up": [1]}
    no_attention = {"channels": [4, 4], "num_res_blocks": 1, "attention_levels": [False, False], "norm_num_groups": 2}
    narrow = {"feature_size": 12, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 1, 1], "window_size": 4}
    return [
        Component("unet", f"{home}:UNet", fixed=_IN_3D, trial=shallow),
        Component("attention_unet", f"{home}:AttentionUnet", fixed=_IN_3D, trial=shallow),
        Component("dynunet", f"{home}:DynUNet", fixed=_IN_3D | one_output, trial={"options": three_levels}),
        Component("segresnet", f"{home}:SegResNet", fixed=_IN_3D, trial={"options": two_levels}),
        Component("swin_unetr", f"{home}:SwinUNETR", trial={"options": narrow, "patch_size": (32, 32, 64)}),
        Component("autoencoder_kl", f"{home}:AutoencoderKL", fixed=_IN_3D, trial={"options": no_attention}),
    ]


@hookimpl
def medtrans_discriminators() -> list[Component]:
    """Discriminators that judge patch by patch."""
    home, one_layer, two = "medtrans_monai.discriminators", {"channels": 2, "num_layers_d": 1}, {"num_d": 2}
    return [
        Component("patch", f"{home}:PatchDiscriminator", trial={"options": one_layer}),
        Component("multi_scale_patch", f"{home}:MultiScalePatchDiscriminator", trial={"options": one_layer | two}),
    ]


@hookimpl
def medtrans_losses() -> list[Component]:
    """Losses on the finest level, one of them by the features of a network, and one on logits."""
    home, mean, unbounded = "medtrans_monai.losses", {"reduction": "mean"}, {"at_identity": "unknown"}
    untrained = {"options": {"weights": "random"}, "patch_size": (8, 8, 8)}
    return [
        Component("ssim", f"{home}:SSIMLoss", fixed=_IN_3D | mean, trial={"symmetric": True}),
        Component("lncc", f"{home}:LocalNormalizedCrossCorrelationLoss", fixed=_IN_3D | mean, trial=unbounded),
        Component("mutual_information", f"{home}:GlobalMutualInformationLoss", fixed=mean, trial=unbounded),
        Component("perceptual_3d", "medtrans_monai.perceptual_3d:Perceptual3D", trial=untrained),
        Component("patch_adversarial", f"{home}:PatchAdversarialLoss", fixed=mean, trial={"at_identity": 1.0}),
    ]


@hookimpl
def medtrans_metrics() -> list[Component]:
    """Scores of whole volumes, without regard to masks."""
    home, one_number = "medtrans_monai.metrics", {"reduction": "mean", "get_not_nans": False}
    no_mask = "MONAI's metrics know no mask, as their definitions say"
    maskless = {"looks inside the mask only": no_mask, "scores no empty mask": no_mask}
    alike = {"identical": 1.0, "excused": maskless}
    two_scales = alike | {"options": {"weights": [0.5, 0.5], "kernel_size": 3}}
    return [
        Component("ssim", f"{home}:SSIM", fixed=_IN_3D | one_number, trial=alike),
        Component("ms_ssim", f"{home}:MultiScaleSSIM", fixed=_IN_3D | one_number, trial=two_scales),
        Component("rmse", f"{home}:RMSE", fixed=one_number, trial={"identical": 0.0, "excused": maskless}),
    ]
