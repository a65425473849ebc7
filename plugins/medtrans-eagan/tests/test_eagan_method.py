"""The adversarial gradient: it reaches the generator, and does not with the published code's image pool."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

import medtrans
from medtrans import ConfigError, PairedMethod, Parts
from medtrans.testing import WeightedLoss
from medtrans.types import Batch
from medtrans_eagan.adversarial_loss import SoftLabelLSGAN
from medtrans_eagan.discriminator import EaGANDiscriminator
from medtrans_eagan.generator import EaGANGenerator
from medtrans_eagan.legacy_method import LegacyMethod

L1 = medtrans.component("loss", "l1").factory


def parts(losses: dict[str, WeightedLoss] | None = None, **changes: Any) -> Parts:
    """Small networks; without other losses, an adversarial one beside an L1 of weight 0."""
    given = {
        "make_generator": lambda source, target: EaGANGenerator(source, target, levels=5, width=1, dropout=False),
        "make_discriminator": lambda source, target: EaGANDiscriminator(
            source, target, edge_in_discriminator=True, layers=1, width=2
        ),
        "losses": {"lsgan": WeightedLoss(SoftLabelLSGAN(), 1.0), "l1": WeightedLoss(L1(1), 0.0)}
        if losses is None
        else losses,
        "make_optimizer": lambda params, _role: torch.optim.SGD(params, lr=0.1),
        "learning_rate_factor": lambda _step, _role: 1.0,
        "source_channels": 1,
        "target_channels": 1,
        "epoch_steps": 1,
        "accumulate": 1,
    }
    return Parts(**{**given, **changes})


def method(kind: type[PairedMethod], given: Parts | None = None, **options: Any) -> PairedMethod:
    torch.manual_seed(0)
    made = kind(given or parts(), **options)
    made.setup(Fabric(accelerator="cpu", devices=1))
    return made


def batch(seed: int, size: int = 2) -> Batch:
    draw = torch.Generator().manual_seed(seed)
    source = torch.rand((size, 1, 32, 32, 32), generator=draw)
    return Batch(source, 1 - source, None, tuple(range(size)))


def weights(network: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in network.named_parameters()}


def moved(made: PairedMethod, role: str, *, only: int | None = None) -> int:
    """How many parameters one step changes, of those with `only` axes where given."""
    before = weights(made.networks()[role])
    made.training_step(batch(0), 0)
    after = weights(made.networks()[role])
    return sum(not torch.equal(old, after[name]) for name, old in before.items() if only in (None, old.ndim))


@pytest.mark.parametrize(
    ("kind", "options"),
    [(PairedMethod, {}), (PairedMethod, {"pool_size": 4}), (LegacyMethod, {"legacy_pool": False})],
)
def test_the_adversarial_gradient_reaches_the_generator(kind: type[PairedMethod], options: dict[str, Any]) -> None:
    made = method(kind, **options)
    convolutions = [weight for weight in weights(made.networks()["generator"]).values() if weight.ndim == 5]
    assert moved(made, "generator", only=5) == len(convolutions) == 10


def test_with_the_published_pool_no_adversarial_gradient_reaches_the_generator() -> None:
    made = method(LegacyMethod)
    assert moved(made, "generator") == 0
    assert moved(made, "discriminator") > 0


def test_the_published_pool_leaves_the_other_losses_their_gradient() -> None:
    losses = {"lsgan": WeightedLoss(SoftLabelLSGAN(), 1.0), "l1": WeightedLoss(L1(1), 1.0)}
    legacy, plain = method(LegacyMethod, parts(losses)), method(PairedMethod, parts({"l1": losses["l1"]}))
    for made in (legacy, plain):
        made.training_step(batch(0), 0)
    for name, weight in weights(plain.networks()["generator"]).items():
        torch.testing.assert_close(weights(legacy.networks()["generator"])[name], weight)


def test_the_published_pool_mixes_real_and_generated_images() -> None:
    made = method(LegacyMethod)
    data = batch(0)
    made.training_step(data, 0)
    kept = [image for image, _source in made.pool.kept]
    assert len(kept) == 4
    assert sum(any(torch.equal(image, real) for real in data.target) for image in kept) == 2


def test_the_pool_as_intended_holds_generated_images_alone() -> None:
    made = method(LegacyMethod, legacy_pool=False)
    for step in range(3):
        made.training_step(batch(step), step)
    real = [image for step in range(3) for image in batch(step).target]
    assert len(made.pool.kept) == 4
    assert not any(torch.equal(image, one) for image, _source in made.pool.kept for one in real)


def test_every_image_of_the_published_pool_stays_beside_its_own_source() -> None:
    made = method(LegacyMethod)
    for step in range(4):
        made.training_step(batch(step), step)
    pairs = [
        (source, target)
        for step in range(4)
        for source, target in zip(batch(step).source, batch(step).target, strict=True)
    ]
    real = [
        (image, source) for image, source in made.pool.kept if any(torch.equal(image, target) for _, target in pairs)
    ]
    assert all(torch.equal(image, 1 - source) for image, source in real)
    assert all(any(torch.equal(source, one) for one, _ in pairs) for _, source in made.pool.kept)


def test_a_step_of_the_published_pool_depends_on_nothing_but_weights_pool_and_step() -> None:
    straight = method(LegacyMethod)
    for step in range(5):
        straight.training_step(batch(step), step)
    first = method(LegacyMethod)
    for step in range(3):
        first.training_step(batch(step), step)
    second = method(LegacyMethod)
    for name, network in second.networks().items():
        network.load_state_dict(first.networks()[name].state_dict())
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for step in range(3, 5):
        second.training_step(batch(step), step)
    for name, network in straight.networks().items():
        for key, tensor in network.state_dict().items():
            assert torch.equal(tensor, second.networks()[name].state_dict()[key]), (name, key)


def test_what_the_published_pool_could_not_train_is_refused_with_all_reasons() -> None:
    alone = parts({"lsgan": WeightedLoss(SoftLabelLSGAN(), 1.0)}, make_discriminator=None)
    with pytest.raises(ConfigError) as raised:
        LegacyMethod(alone, pool_size=0)
    assert [fault.split(":")[0] for fault in raised.value.faults] == ["legacy_pool"] * 3
    assert "pool_size to 4" in str(raised.value)
    assert "set `discriminator`" in str(raised.value)
    assert "add one such as l1" in str(raised.value)


def test_a_trained_run_translates_without_its_losses() -> None:
    made = method(LegacyMethod, parts(losses={}))
    translated = made.translate(batch(0).source)
    assert translated.shape == (2, 1, 32, 32, 32)
