"""Voxel-wise and adversarial losses: their values by hand, and their gradients."""

from __future__ import annotations

import math

import pytest
import torch

from medtrans.builtin.losses.adversarial import BCE, LSGAN, Relativistic
from medtrans.builtin.losses.voxel import L1, L2
from medtrans.errors import DataError
from medtrans.types import DiscriminatorOutput, LossInputs, pyramid

ADVERSARIAL = [Relativistic(), Relativistic(form="paired"), BCE(), LSGAN()]


def inputs(prediction=(), target=(), *, mask=None, real=None, fake=None) -> LossInputs:
    outputs = [None if logits is None else DiscriminatorOutput(tuple(logits)) for logits in (real, fake)]
    return LossInputs((), tuple(target), tuple(prediction), mask, *outputs, step=0, phase="generator")


def levels_of(value: float, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, ...]:
    return pyramid(torch.full((2, 1, 8, 8, 8), value, dtype=dtype), 4)


# Voxel-wise


@pytest.mark.parametrize(("loss", "value"), [(L1, 0.5), (L2, 0.25)])
def test_voxel_losses_sum_level_means(loss, value) -> None:
    assert loss(4)(inputs(levels_of(0.75), levels_of(0.25))).item() == pytest.approx(4 * value)
    weighted = loss(4, level_weights=(1.0, 0.5, 0.25, 0.0))
    assert weighted(inputs(levels_of(0.75), levels_of(0.25))).item() == pytest.approx(1.75 * value)


def test_a_mask_leaves_only_its_voxels() -> None:
    prediction, target = torch.zeros(1, 2, 8, 8, 8), torch.zeros(1, 2, 8, 8, 8)
    mask = torch.zeros(1, 1, 8, 8, 8, dtype=torch.uint8)
    mask[..., :4] = 1
    prediction[..., :4], prediction[..., 4:] = 1.0, 100.0
    seen = inputs(pyramid(prediction, 2), pyramid(target, 2), mask=mask)
    assert L1(2, masked=True)(seen).item() == pytest.approx(2.0)
    assert L1(2)(seen).item() == pytest.approx(2 * 50.5)
    nothing = inputs(levels_of(1.0), levels_of(0.0), mask=torch.zeros(2, 1, 8, 8, 8))
    assert L1(4, masked=True)(nothing).item() == 0.0


def test_faults_of_voxel_losses_are_named() -> None:
    with pytest.raises(ValueError, match="L1: the prediction has 4 levels but level_weights has 2 numbers"):
        L1(4, level_weights=(1.0, 1.0))
    with pytest.raises(ValueError, match="L2: made for 1 levels, found 4"):
        L2(1)(inputs(levels_of(0.0), levels_of(0.0)))
    with pytest.raises(DataError, match="masked is true but the cohort has no masks"):
        L1(4, masked=True)(inputs(levels_of(0.0), levels_of(0.0)))


# Adversarial, by hand


@pytest.mark.parametrize("constant", [-3.0, 0.0, 40.0])
@pytest.mark.parametrize("form", ["average", "paired"])
def test_equal_constant_logits_give_ln_2_a_level_for_both(form, constant) -> None:
    seen, loss = inputs(real=levels_of(constant), fake=levels_of(constant)), Relativistic(form=form)
    assert loss(seen).item() == pytest.approx(4 * math.log(2))
    assert loss.discriminator_loss(seen).item() == pytest.approx(4 * math.log(2))


def softplus(z: float) -> float:
    return math.log1p(math.exp(z))


@pytest.mark.parametrize(
    ("loss", "generator", "discriminator"),
    [(LSGAN(), (-1 - 1) ** 2 / 2, ((2 - 1) ** 2 + (-1) ** 2) / 2), (BCE(), softplus(1), softplus(-2) + softplus(-1))],
)
def test_plain_forms_by_hand(loss, generator, discriminator) -> None:
    seen = lone(torch.full((1, 1, 2, 2, 2), 2.0), torch.full((1, 1, 2, 2, 2), -1.0))
    assert loss(seen).item() == pytest.approx(generator)
    assert loss.discriminator_loss(seen).item() == pytest.approx(discriminator)


def test_relativistic_average_by_hand() -> None:
    """Real logits 1 and 3 (mean 2), generated -1 and 1 (mean 0)."""
    real, fake = torch.tensor([1.0, 3.0]).view(1, 1, 2, 1, 1), torch.tensor([-1.0, 1.0]).view(1, 1, 2, 1, 1)
    seen, loss = lone(real, fake), Relativistic()
    discriminator = ((softplus(-1) + softplus(-3)) / 2 + (softplus(-3) + softplus(-1)) / 2) / 2
    generator = ((softplus(1) + softplus(3)) / 2 + (softplus(3) + softplus(1)) / 2) / 2
    assert loss.discriminator_loss(seen).item() == pytest.approx(discriminator)
    assert loss(seen).item() == pytest.approx(generator)


@pytest.mark.parametrize("loss", ADVERSARIAL)
def test_the_sum_is_over_the_discriminators_levels(loss) -> None:
    torch.manual_seed(0)
    real, fake = (pyramid(torch.randn(2, 1, 8, 8, 8), 3) for _ in range(2))
    single = [(loss(seen), loss.discriminator_loss(seen)) for seen in map(lone, real, fake)]
    seen = inputs(real=real, fake=fake)
    assert loss(seen).item() == pytest.approx(sum(g.item() for g, _ in single))
    assert loss.discriminator_loss(seen).item() == pytest.approx(sum(d.item() for _, d in single))


def lone(real: torch.Tensor, fake: torch.Tensor) -> LossInputs:
    return inputs(real=[real], fake=[fake])


@pytest.mark.parametrize("kind", [Relativistic, BCE, LSGAN])
def test_level_weights_and_their_number(kind) -> None:
    real, fake = levels_of(0.5), levels_of(-0.5)
    seen = inputs(real=real, fake=fake)
    one = kind()(lone(real[0], fake[0])).item()
    assert kind(level_weights=(2.0, 0.0, 1.0, 0.0))(seen).item() == pytest.approx(3 * one)
    with pytest.raises(ValueError, match="the discriminator judges 4 levels but level_weights has 2 numbers"):
        kind(level_weights=(1.0, 1.0))(seen)


@pytest.mark.parametrize("loss", ADVERSARIAL)
def test_16_bit_logits_are_summed_in_32_and_64_stay_64(loss) -> None:
    half = inputs(real=levels_of(0.3, torch.bfloat16), fake=levels_of(-0.2, torch.bfloat16))
    assert loss(half).dtype == loss.discriminator_loss(half).dtype == torch.float32
    double = inputs(real=levels_of(0.3, torch.float64), fake=levels_of(-0.2, torch.float64))
    with torch.autocast("cpu", torch.bfloat16):
        assert loss(double).dtype == torch.float64
    assert L1(4)(inputs(levels_of(0.3, torch.bfloat16), levels_of(0.1))).dtype == torch.float32


@pytest.mark.parametrize("loss", ADVERSARIAL)
def test_gradients_are_those_of_the_formula(loss) -> None:
    """Also through the means that the average form compares with."""
    torch.manual_seed(0)
    real, fake = (torch.randn(2, 1, 2, 2, 1, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(lambda f: loss(lone(real.detach(), f)), fake)
    assert torch.autograd.gradcheck(lambda r, f: loss.discriminator_loss(lone(r, f)), (real, fake))
