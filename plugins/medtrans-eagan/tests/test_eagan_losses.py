"""Ea-GAN's losses: their values by hand, the labels they draw, and the weights of the published configs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import medtrans
from medtrans import ConfigError
from medtrans.types import DiscriminatorOutput, LossInputs, pyramid
from medtrans_eagan.adversarial_loss import SoftLabelLSGAN
from medtrans_eagan.edge_loss import EdgeLoss
from medtrans_eagan.sobel import edges


def inputs(
    prediction: Tensor | None = None, target: Tensor | None = None, *, real: Any = None, fake: Any = None
) -> LossInputs:
    levels = [() if image is None else pyramid(image, 2) for image in (target, prediction)]
    judged = [None if maps is None else DiscriminatorOutput(tuple(maps)) for maps in (real, fake)]
    return LossInputs((), *levels, None, *judged, step=0, phase="generator")


def noise(seed: int, *shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def test_the_edge_term_is_the_mean_distance_of_edge_maps_in_minus_one_to_one() -> None:
    prediction, target = noise(0, 2, 1, 6, 6, 6), noise(1, 2, 1, 6, 6, 6)
    expected = (edges(2 * prediction - 1) - edges(2 * target - 1)).abs().mean()
    torch.testing.assert_close(EdgeLoss()(inputs(prediction, target)), expected)
    assert EdgeLoss()(inputs(target, target)) == 0


def test_the_edge_term_has_a_finite_gradient_where_part_of_the_image_is_flat() -> None:
    image = noise(1, 1, 1, 12, 12, 12)
    image[..., :6] = 0.0
    image.requires_grad_()
    EdgeLoss()(inputs(image, noise(0, 1, 1, 12, 12, 12))).backward()
    assert image.grad is not None
    assert image.grad.isfinite().all()
    assert image.grad[..., 7:].abs().min() > 0


def test_least_squares_is_whole_for_the_generator_and_half_of_the_sum_for_the_discriminator() -> None:
    real, fake = [noise(0, 2, 1, 3, 3, 3)], [noise(1, 2, 1, 3, 3, 3)]
    seen = inputs(real=real, fake=fake)
    torch.testing.assert_close(SoftLabelLSGAN()(seen), ((fake[0] - 1) ** 2).mean())
    torch.testing.assert_close(
        SoftLabelLSGAN().discriminator_loss(seen), 0.5 * ((fake[0] ** 2).mean() + ((real[0] - 1) ** 2).mean())
    )


def test_several_maps_are_averaged() -> None:
    fake = [torch.zeros(1, 1, 2, 2, 2), torch.full((1, 1, 4, 4, 4), 3.0)]
    assert SoftLabelLSGAN()(inputs(fake=fake)) == pytest.approx((1 + 4) / 2)


def test_soft_labels_fill_their_ranges_and_every_patch_has_its_own() -> None:
    torch.manual_seed(0)
    loss, logits = SoftLabelLSGAN(soft_labels=True), torch.zeros(2000, 1, 1, 1, 1)
    for real, low, high in ((True, 0.7, 1.2), (False, 0.0, 0.3)):
        drawn = loss.labels(logits, real=real)
        assert drawn.shape == logits.shape
        assert low <= drawn.min() < low + 0.01
        assert high - 0.01 < drawn.max() <= high
        assert drawn.unique().numel() > 1900


def test_soft_labels_are_drawn_anew_for_every_term_and_legacy_ones_once() -> None:
    torch.manual_seed(0)
    seen = inputs(real=[torch.zeros(4, 1, 2, 2, 2)], fake=[torch.zeros(4, 1, 2, 2, 2)])
    fresh, kept = SoftLabelLSGAN(soft_labels=True), SoftLabelLSGAN(soft_labels=True, legacy_labels=True)
    assert len({float(fresh(seen)) for _ in range(5)}) == 5
    assert len({float(kept(seen)) for _ in range(5)}) == 1
    assert kept.labels(torch.zeros(4, 1, 1, 1, 1), real=True).unique().numel() == 4
    assert not torch.equal(
        (kept.labels(seen.real.logits[0], real=True) - 0.7) / 0.5, kept.labels(seen.real.logits[0], real=False) / 0.3
    )


def test_legacy_labels_follow_the_seed_that_the_loss_was_made_with() -> None:
    def made(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return SoftLabelLSGAN(soft_labels=True, legacy_labels=True).labels(torch.zeros(3, 1, 1, 1, 1), real=True)

    assert torch.equal(made(0), made(0))
    assert not torch.equal(made(0), made(1))


def test_legacy_labels_without_soft_ones_are_an_error() -> None:
    with pytest.raises(ConfigError, match="soft_labels: true"):
        SoftLabelLSGAN(legacy_labels=True)


def test_least_squares_without_a_discriminator_is_an_error() -> None:
    with pytest.raises(ConfigError, match="needs a discriminator"):
        SoftLabelLSGAN()(inputs(noise(0, 1, 1, 2, 2, 2)))


def test_a_run_without_a_discriminator_is_refused_before_it_starts(tmp_path: Path) -> None:
    config = Path(__file__).parents[1] / "configs" / "eagan_small.yaml"
    with pytest.raises(ConfigError, match=r"losses\.lsgan: needs a discriminator"):
        medtrans.run(config, ["discriminator=null", f"output_dir={tmp_path / 'run'}"])
