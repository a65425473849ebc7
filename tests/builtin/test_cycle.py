"""Training without pairs: what is compared with what, who is updated by what, and what is kept."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.precision.amp import MixedPrecision
from torch import Tensor, nn

from medtrans import ConfigError, CycleMethod, Parts
from medtrans.builtin.discriminators import MultiResUNet, PatchGAN
from medtrans.builtin.generators.mdaunet import MDAUNet
from medtrans.builtin.losses.adversarial import LSGAN
from medtrans.builtin.losses.voxel import L1
from medtrans.plugins.interfaces import Ramp, WeightedLoss
from medtrans.plugins.optimizers import SGD, Adam
from medtrans.types import Batch, DiscriminatorOutput, Loss, LossInputs, Pyramid
from tests.builtin.methods import parameters_of, parts_of, same

NETWORKS = ("generator", "generator_back", "discriminator", "discriminator_back")


class Affine(nn.Module):
    """`gain * image + shift`, so that every term can be worked out by hand."""

    def __init__(self, gain: float = 1.0, shift: float = 0.0) -> None:
        super().__init__()
        self.gain, self.shift = nn.Parameter(torch.tensor(gain)), nn.Parameter(torch.tensor(shift))

    def forward(self, image: Tensor) -> Tensor:
        return self.gain * image + self.shift


class Mean(nn.Module):
    """One logit an image: a function of its mean intensity, here a factor of 1. Remembers what it was shown."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(*layers or (Affine(),))
        self.seen: list[tuple[Tensor, Tensor]] = []

    def forward(self, candidate: Pyramid, source: Pyramid) -> DiscriminatorOutput:
        self.seen.append((candidate[0].detach().clone(), source[0].detach().clone()))
        return DiscriminatorOutput((self.body(candidate[0].mean(dim=(1, 2, 3, 4))[:, None]),))


def losses(cycle: float | Ramp = 10.0, adversarial: float = 2.0) -> dict[str, WeightedLoss]:
    return {"l1": WeightedLoss(L1(1), cycle), "lsgan": WeightedLoss(LSGAN(), adversarial)}


def parts(**changed: Any) -> Parts:
    gains = iter((2.0, 0.25))
    usual = {
        "make_generator": lambda _source, _target: Affine(next(gains)),
        "make_discriminator": lambda _source, _target: Mean(),
        "losses": losses(),
        "make_optimizer": lambda params, _role: SGD(lr=1e-3, momentum=0.0).make(params),
    }
    return parts_of(**{**usual, **changed})


def real_parts(**changed: Any) -> Parts:
    """Real networks, several levels of the prediction, and an optimiser with a memory."""
    usual = {
        "make_generator": lambda source, target: MDAUNet(
            source, target, width=4, growth=(2, 2), n_rdb=1, rdb_layers=2, decoder_convs=1, spectral_norm=False
        ),
        "make_discriminator": lambda source, target: PatchGAN(source, target, width=4, layers=1),
        "losses": {"l1": WeightedLoss(L1(2), 10.0), "lsgan": WeightedLoss(LSGAN(), 2.0)},
        "make_optimizer": lambda params, _role: Adam(lr=1e-3).make(params),
    }
    return parts(**{**usual, **changed})


def method(given: Parts | None = None, *, fabric: bool = True, **options: Any) -> CycleMethod:
    torch.manual_seed(0)
    made = CycleMethod(given or parts(), **options)
    if fabric:
        made.setup(Fabric(accelerator="cpu", devices=1))
    return made


def batch(seed: int = 0, size: int = 2, *, masked: bool = False) -> Batch:
    draw = torch.Generator().manual_seed(seed)
    source, target = torch.rand((2, size, 1, 8, 8, 8), generator=draw)
    masks = (torch.rand((2, size, 1, 8, 8, 8), generator=draw) < 0.5).float()
    return Batch(source, target, masks[0] if masked else None, tuple(range(size)), masks[1] if masked else None)


def moved(made: CycleMethod, data: Batch) -> set[str]:
    """The networks of which a step changes some weight."""
    before = {name: parameters_of(network) for name, network in made.networks().items()}
    made.training_step(data, 0)
    return {name for name, network in made.networks().items() if not same(before[name], parameters_of(network))}


def test_every_term_is_cyclegans() -> None:
    made, data = method(identity=0.5, pool_size=0), batch()
    s, t = data.source, data.target
    fake_t, fake_s = 2.0 * s, 0.25 * t

    values = made.training_step(data, 0)

    def close(name: str, expected: Tensor) -> None:
        torch.testing.assert_close(values[name], expected, rtol=1e-5, atol=1e-6)

    close("l1_cycle", (0.25 * fake_t - s).abs().mean())
    close("l1_cycle_back", (2.0 * fake_s - t).abs().mean())
    close("l1_identity", (2.0 * t - t).abs().mean())
    close("l1_identity_back", (0.25 * s - s).abs().mean())
    close("lsgan", (fake_t.mean(dim=(1, 2, 3, 4)) - 1).square().mean() / 2)
    close("lsgan_back", (fake_s.mean(dim=(1, 2, 3, 4)) - 1).square().mean() / 2)
    close(
        "generator",
        10 * (values["l1_cycle"] + values["l1_cycle_back"])
        + 5 * (values["l1_identity"] + values["l1_identity_back"])
        + 2 * (values["lsgan"] + values["lsgan_back"]),
    )
    for name, real, fake in (("discriminator", t, fake_t), ("discriminator_back", s, fake_s)):
        called_real, called_fake = (image.mean(dim=(1, 2, 3, 4)) for image in (real, fake))
        close(name, ((called_real - 1).square().mean() + called_fake.square().mean()) / 2)


def test_the_gradient_of_both_generators_is_that_of_the_whole_sum() -> None:
    made, data = method(identity=0.5, pool_size=0), batch()
    there, back = torch.tensor(2.0, requires_grad=True), torch.tensor(0.25, requires_grad=True)
    s, t = data.source, data.target
    total = 10 * ((back * there * s - s).abs().mean() + (there * back * t - t).abs().mean())
    total = total + 5 * ((there * t - t).abs().mean() + (back * s - s).abs().mean())
    for fake in (there * s, back * t):
        total = total + (fake.mean(dim=(1, 2, 3, 4)) - 1).square().mean()
    total.backward()

    made.training_step(data, 0)

    torch.testing.assert_close(made.networks()["generator"].gain.detach(), 2.0 - 1e-3 * there.grad)
    torch.testing.assert_close(made.networks()["generator_back"].gain.detach(), 0.25 - 1e-3 * back.grad)


def test_a_step_updates_all_four_networks_and_only_the_discriminators_by_their_own_terms() -> None:
    assert moved(method(), batch()) == set(NETWORKS)

    class NothingForTheDiscriminator(LSGAN):
        def discriminator_loss(self, inputs: LossInputs) -> Tensor | None:  # type: ignore[override]  # it has none
            return None

    made = method(parts(losses=losses() | {"lsgan": WeightedLoss(NothingForTheDiscriminator(), 1.0)}))
    assert moved(made, batch()) == {"generator", "generator_back"}
    assert "discriminator" not in made.training_step(batch(), 1)
    assert all(parameter.requires_grad for network in made.networks().values() for parameter in network.parameters())


def test_discriminators_judge_without_a_source() -> None:
    asked: list[tuple[int, int]] = []

    def make(source: int, target: int) -> nn.Module:
        asked.append((source, target))
        return Mean()

    made = method(
        parts(
            make_discriminator=make,
            source_channels=2,
            target_channels=3,
            make_generator=lambda read, written: nn.Conv3d(read, written, 1),
        ),
        identity=0,
    )
    data = batch()
    made.training_step(Batch(data.source.expand(2, 2, 8, 8, 8), data.target.expand(2, 3, 8, 8, 8), None, (0, 1)), 0)
    assert asked == [(0, 3), (0, 2)]
    for name, channels in (("discriminator", 3), ("discriminator_back", 2)):
        seen = made.networks()[name].seen
        assert {(candidate.shape[1], source.shape[1]) for candidate, source in seen} == {(channels, 0)}


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"source_channels": 2}, "identity: 0"),
        ({"make_discriminator": None}, "discriminator"),
        ({"losses": {"lsgan": WeightedLoss(LSGAN(), 1.0)}}, "compares images"),
        ({"losses": {"l1": WeightedLoss(L1(1), 1.0)}}, "is adversarial"),
    ],
)
def test_what_cannot_train_is_refused(changed: dict[str, Any], fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        method(parts(**changed))


def test_translation_goes_from_source_to_target_is_clipped_and_needs_no_losses() -> None:
    translated = method(parts(losses={}), fabric=False).translate(
        torch.tensor([-1.0, 0.25, 0.9]).reshape(1, 1, 3, 1, 1)
    )
    assert translated.flatten().tolist() == [0.0, 0.5, 1.0]


def test_a_mask_is_that_of_the_image_compared_with() -> None:
    seen: list[tuple[float, float]] = []

    class Looking(Loss):
        def forward(self, inputs: LossInputs) -> Tensor:
            assert inputs.mask is not None
            seen.append((float(inputs.target[0].sum()), float(inputs.mask.sum())))
            return inputs.prediction[0].mean()

    data = batch(masked=True)
    method(parts(losses=losses() | {"l1": WeightedLoss(Looking(), 1.0)})).training_step(data, 0)
    source = (float(data.source.sum()), float(data.mask.sum()))
    target = (float(data.target.sum()), float(data.target_mask.sum()))
    assert seen == [source, target, target, source]  # cycle and identity there, cycle and identity back


def test_the_pool_shows_each_discriminator_older_predictions_of_its_own_direction() -> None:
    frozen = parts(learning_rate_factor=lambda *_: 0.0)
    made = method(frozen, pool_size=2)
    batches = [batch(seed) for seed in range(8)]
    for step, data in enumerate(batches):
        made.training_step(data, step)
    for name, gain, image in (("discriminator", 2.0, "source"), ("discriminator_back", 0.25, "target")):
        # Each step shows the real and the fresh one for the generators, then the real and the pool's.
        shown = [candidate for candidate, _ in made.networks()[name].seen[3::4]]
        fresh = [gain * getattr(data, image) for data in batches]
        older = [
            step for step, (one, other) in enumerate(zip(shown, fresh, strict=True)) if not torch.equal(one, other)
        ]
        assert older
        every = torch.cat(fresh)
        assert all(any(torch.equal(patch, one) for one in every) for candidate in shown for patch in candidate)


def test_networks_are_named_and_the_average_follows_the_generator_of_targets() -> None:
    assert tuple(method().networks()) == NETWORKS
    made = method(real_parts(), ema=0.5)
    assert tuple(made.networks()) == (*NETWORKS, "generator_average")
    made.training_step(batch(), 0)
    generator, average = (dict(made.networks()[name].named_parameters()) for name in ("generator", "generator_average"))
    assert all(not torch.equal(average[name], tensor) for name, tensor in generator.items() if tensor.ndim > 1)
    source = torch.rand(1, 1, 8, 8, 8)
    by_average = made.networks()["generator_average"].eval()(source)[0].clamp(0, 1)
    torch.testing.assert_close(made.translate(source), by_average.detach())


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_it_trains_and_translates_in_either_precision_with_several_levels(precision: str) -> None:
    made = method(
        real_parts(make_discriminator=lambda source, target: MultiResUNet(source, target, width=2, convs=1, levels=2)),
        fabric=False,
    )
    made.setup(Fabric(accelerator="cpu", devices=1, precision=precision))
    values = made.training_step(batch(), 0)
    assert all(bool(torch.isfinite(value).all()) for value in values.values())
    assert made.translate(torch.rand(1, 1, 8, 8, 8)).dtype == torch.float32


@pytest.mark.slow
def test_it_learns_a_translation_without_a_single_pair() -> None:
    """Sources are dark and targets bright; the images of a batch have nothing else to do with each other."""
    given = parts(
        make_generator=lambda _source, _target: Affine(),
        make_discriminator=lambda _source, _target: Mean(nn.Linear(1, 8), nn.LeakyReLU(0.2), nn.Linear(8, 1)),
        losses=losses(cycle=1.0),
        make_optimizer=lambda params, role: Adam(lr=0.01 if role == "generator" else 0.02, betas=(0.5, 0.999)).make(
            params
        ),
    )
    made = method(given, identity=0, ema=0.95)
    draw = torch.Generator().manual_seed(1)
    for step in range(250):
        dark, bright = 0.3 * torch.rand((2, 4, 1, 4, 4, 4), generator=draw)
        made.training_step(Batch(dark, bright + 0.5, None, (0, 1, 2, 3)), step)
    assert float(made.translate(torch.full((1, 1, 4, 4, 4), 0.15)).mean()) == pytest.approx(0.65, abs=0.05)


def scaled_gains(*, growth_interval: int, overflow: bool = False) -> dict[str, float]:
    """Each network's gain after one step in 16-mixed, and the scale's growth."""
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=growth_interval)
    precision = MixedPrecision("16-mixed", "cpu", scaler)
    made = CycleMethod(parts(), pool_size=0)
    if overflow:
        made.networks()["generator"].shift.register_hook(lambda gradient: gradient * torch.inf)
    made.setup(Fabric(accelerator="cpu", devices=1, plugins=[precision]))
    made.training_step(batch(), 0)
    moved = {name: float(next(network.parameters()).detach()) for name, network in made.networks().items()}
    return {**moved, "scale": scaler.get_scale()}


def test_in_half_precision_one_scale_serves_all_networks_of_a_step() -> None:
    """It moves after the last of them: in between, it would halve or double what is still to be learnt from."""
    calm, grown = scaled_gains(growth_interval=1000), scaled_gains(growth_interval=1)
    assert (calm.pop("scale"), grown.pop("scale")) == (4.0, 8.0)
    assert grown == calm


def test_in_half_precision_overflow_of_one_network_leaves_the_steps_of_the_others_as_they_are() -> None:
    calm, broken = scaled_gains(growth_interval=1000), scaled_gains(growth_interval=1000, overflow=True)
    assert broken.pop("scale") == 2.0
    assert broken.pop("generator") == 2.0
    assert broken == {name: calm[name] for name in broken}
