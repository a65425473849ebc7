"""MONAI's parts keep medtrans' contracts, every rule of them but what their components excuse."""

from __future__ import annotations

import pytest

from medtrans.testing import check_discriminator, check_generator, check_loss, check_metric


@pytest.mark.parametrize("name", ["unet", "attention_unet", "dynunet", "segresnet", "autoencoder_kl"])
def test_the_generators_conform(name: str) -> None:
    check_generator(f"monai:{name}")


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_swin_unetr_conforms_on_the_smallest_patch_it_takes() -> None:
    check_generator("monai:swin_unetr")


@pytest.mark.parametrize("name", ["patch", "multi_scale_patch"])
def test_the_discriminators_conform(name: str) -> None:
    check_discriminator(f"monai:{name}")


@pytest.mark.parametrize("name", ["ssim", "lncc", "mutual_information", "perceptual_3d", "patch_adversarial"])
def test_the_losses_conform(name: str) -> None:
    check_loss(f"monai:{name}")


@pytest.mark.parametrize("name", ["ssim", "ms_ssim", "rmse"])
def test_the_metrics_conform(name: str) -> None:
    check_metric(f"monai:{name}")
