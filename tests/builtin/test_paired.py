"""Paired training: who is updated by what, with which gradient, and what is kept."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.precision.amp import MixedPrecision
from torch import Tensor, nn

from medtrans import MDAUNet, MultiResUNet, PairedMethod, Parts
from medtrans.builtin.losses.adversarial import Relativistic
from medtrans.builtin.losses.voxel import L1
from medtrans.plugins.interfaces import WeightedLoss
from medtrans.plugins.optimizers import SGD, Adam
from medtrans.plugins.ramp import Ramp
from medtrans.runs import checkpoint
from medtrans.training.state import TrainingState, resume
from medtrans.types import Batch, DiscriminatorOutput, LossInputs, Pyramid
from tests.builtin.methods import parameters_of, parts_of, same

LEVELS = 2
ADAM = Adam(lr=1e-3)
L1_ALONE: dict[str, Any] = {"losses": {"l1": WeightedLoss(L1(LEVELS), 1.0)}, "discriminator": False}


def parts(
    losses: dict[str, WeightedLoss] | None = None,
    *,
    discriminator: bool = True,
    optimizer: Any = ADAM,
    accumulate: int = 1,
    factor: Any = lambda _step, _role: 1.0,
) -> Parts:
    if losses is None:
        losses = {"l1": WeightedLoss(L1(LEVELS), 1.0), "adversarial": WeightedLoss(Relativistic(), 0.1)}
    return parts_of(
        make_generator=lambda source, target: MDAUNet(
            source, target, width=4, growth=(2, 2), n_rdb=1, rdb_layers=2, decoder_convs=1, spectral_norm=False
        ),
        make_discriminator=(lambda source, target: MultiResUNet(source, target, width=2, convs=1, levels=LEVELS))
        if discriminator
        else None,
        losses=losses,
        make_optimizer=lambda params, _role: optimizer.make(params),
        learning_rate_factor=factor,
        accumulate=accumulate,
    )


def method(given: Parts | None = None, *, fabric: bool = True, **options: Any) -> PairedMethod:
    torch.manual_seed(0)
    made = PairedMethod(given or parts(), **options)
    if fabric:
        made.setup(Fabric(accelerator="cpu", devices=1))
    return made


def batch(seed: int = 0, size: int = 2) -> Batch:
    draw = torch.Generator().manual_seed(seed)
    source = torch.rand((size, 1, 8, 8, 8), generator=draw)
    return Batch(source, 1 - source, None, tuple(range(size)))


def test_the_adversarial_gradient_reaches_every_weight_of_the_generator() -> None:
    made = method(parts({"adversarial": WeightedLoss(Relativistic(), 1.0)}, optimizer=SGD(lr=0.1)))
    before = parameters_of(made.networks()["generator"])
    made.training_step(batch(), 0)
    after = parameters_of(made.networks()["generator"])
    assert [name for name, old in before.items() if torch.equal(old, after[name])] == []


class DiscriminatorOnly(Relativistic):
    """Trains the discriminator and asks nothing of the generator."""

    def forward(self, inputs: LossInputs) -> Tensor:
        return inputs.prediction[0].sum() * 0


class GeneratorOnly(Relativistic):
    """Trains the generator against a discriminator that stays."""

    def discriminator_loss(self, inputs: LossInputs) -> Tensor | None:  # type: ignore[override]  # it has none
        return None


@pytest.mark.parametrize(("loss", "updated"), [(DiscriminatorOnly(), "discriminator"), (GeneratorOnly(), "generator")])
def test_the_update_of_one_network_leaves_the_other_bit_identical(loss: Relativistic, updated: str) -> None:
    made = method(parts({"one": WeightedLoss(loss, 1.0)}, optimizer=SGD(lr=0.1)))
    before = {name: parameters_of(network) for name, network in made.networks().items()}
    made.training_step(batch(), 0)
    for name, network in made.networks().items():
        assert same(before[name], parameters_of(network)) == (name != updated)
        assert all(parameter.requires_grad for parameter in network.parameters())


def test_the_weight_multiplies_the_generators_term_only() -> None:
    values = [
        method(parts({"adversarial": WeightedLoss(Relativistic(), weight)})).training_step(batch(), 0)
        for weight in (1.0, 0.5)
    ]
    assert values[0]["discriminator"] == values[1]["discriminator"]
    assert values[1]["generator"] == 0.5 * values[0]["generator"]


def test_a_ramped_weight_follows_the_step() -> None:
    made = method(parts({"l1": WeightedLoss(L1(LEVELS), Ramp(0.0, 1.0, 10))}, discriminator=False))
    values = made.training_step(batch(), 5)
    assert values["generator"] == pytest.approx(0.5 * float(values["l1"]))


def test_a_loss_may_be_any_module_that_takes_loss_inputs() -> None:
    class Plain(nn.Module):
        def forward(self, inputs: LossInputs) -> Tensor:
            return (inputs.prediction[0] - inputs.target[0]).square().mean()

    made = method(parts({"plain": WeightedLoss(Plain(), 1.0)}))
    before = parameters_of(made.networks()["discriminator"])
    assert made.training_step(batch(), 0)["plain"] > 0
    assert same(before, parameters_of(made.networks()["discriminator"]))


@pytest.mark.parametrize("order", ["discriminator_first", "generator_first"])
def test_both_orders_update_both_networks_also_with_chunks(order: str) -> None:
    made = method(parts(accumulate=2), order=order)
    before = {name: parameters_of(network) for name, network in made.networks().items()}
    made.training_step(batch(size=4), 0)
    for name, network in made.networks().items():
        assert not same(before[name], parameters_of(network))


def test_clipping_bounds_the_update() -> None:
    made = method(parts(optimizer=SGD(lr=1.0, momentum=0.0)), clip_norm=0.01)
    before = parameters_of(made.networks()["generator"])
    values = made.training_step(batch(), 0)
    after = parameters_of(made.networks()["generator"])
    moved = torch.stack([(after[name] - before[name]).square().sum() for name in before]).sum().sqrt()
    assert values["generator_gradient_norm"] > 0.01
    assert moved <= 0.01 * (1 + 1e-4)


def test_translating_uses_the_average_and_leaves_the_mode_alone() -> None:
    made = method(ema=0.9)
    made.training_step(batch(), 0)
    made.training_step(batch(1), 1)
    average, trained = made.networks()["generator_average"], made.networks()["generator"]
    assert not same(parameters_of(average), parameters_of(trained))
    expected = average(batch().source)[0].clamp(0, 1)
    assert torch.equal(made.translate(batch().source), expected)
    assert trained.training
    assert not average.training


def test_the_average_is_what_its_formula_says() -> None:
    made = method(parts(**L1_ALONE), ema=0.05)
    trained = [parameters_of(made.networks()["generator"])]
    for step in range(2):
        made.training_step(batch(step), step)
        trained.append(parameters_of(made.networks()["generator"]))
    for name, tensor in parameters_of(made.networks()["generator_average"]).items():
        first = 0.05 * trained[0][name] + 0.95 * trained[1][name]
        torch.testing.assert_close(tensor, 0.05 * first + 0.95 * trained[2][name])


def test_state_and_weights_bring_a_method_back_bit_for_bit() -> None:
    options: dict[str, Any] = {"ema": 0.9, "pool_size": 2, "clip_norm": 1.0}
    straight = method(**options)
    for step in range(6):
        straight.training_step(batch(step), step)
    first = method(**options)
    for step in range(4):
        first.training_step(batch(step), step)
    kept = {name: copy.deepcopy(network.state_dict()) for name, network in first.networks().items()}
    state = copy.deepcopy(first.state_dict())
    second = method(fabric=False, **options)
    for name, network in second.networks().items():
        network.load_state_dict(kept[name])
    second.load_state_dict(state)
    second.setup(Fabric(accelerator="cpu", devices=1))
    for step in range(4, 6):
        second.training_step(batch(step), step)
    for name, network in straight.networks().items():
        assert same(network.state_dict(), second.networks()[name].state_dict()), name


class Judge(nn.Module):
    """Remembers what it was shown; part of it is frozen by its author."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.fixed = nn.Conv3d(2, 1, 1), nn.Conv3d(1, 1, 1).requires_grad_(requires_grad=False)
        self.seen: list[tuple[Tensor, Tensor]] = []

    def forward(self, candidate: Pyramid, source: Pyramid) -> DiscriminatorOutput:
        self.seen.append((candidate[0].detach(), source[0]))
        return DiscriminatorOutput((self.fixed(self.body(torch.cat((candidate[0], source[0]), dim=1))),), ())


class Twice(nn.Module):
    """A generator whose prediction tells its source, and that keeps a child under a name that wrappers use."""

    def __init__(self) -> None:
        super().__init__()
        self.module, self.scale = nn.BatchNorm3d(1), nn.Parameter(torch.tensor(2.0))

    def forward(self, source: Tensor) -> Tensor:
        if source.shape[-1] == 3:
            raise ValueError("three voxels")
        return source * self.scale + 0 * self.module(source)


def small(**changes: Any) -> Parts:
    losses = {"adversarial": WeightedLoss(Relativistic(), 1.0)}
    given = {"make_generator": lambda *_: Twice(), "make_discriminator": lambda *_: Judge(), **changes}
    return Parts(**{**vars(parts(losses)), **given})


def test_an_older_prediction_is_judged_beside_the_source_it_was_made_from() -> None:
    made = method(small(learning_rate_factor=lambda _step, _role: 0.0), pool_size=2)
    judge: Any = made.networks()["discriminator"]
    older = 0
    for step in range(6):
        judge.seen.clear()
        made.training_step(batch(step), step)
        prediction, source = judge.seen[1]
        torch.testing.assert_close(prediction, 2 * source)
        older += not torch.equal(source, batch(step).source)
    assert older > 0


def test_what_an_author_froze_stays_frozen() -> None:
    made = method(small())
    judge: Any = made.networks()["discriminator"]
    made.training_step(batch(), 0)
    assert {"scale", "module.weight"} <= set(made.networks()["generator"].state_dict())  # whatever a child is called
    assert [name for name, weight in judge.named_parameters() if not weight.requires_grad] == [
        "fixed.weight", "fixed.bias"
    ]  # fmt: skip


def test_a_state_taken_up_before_the_setup_follows_the_parameters_of() -> None:
    first = method()
    first.training_step(batch(), 0)
    second = method(fabric=False)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    second.setup(Fabric(accelerator="cpu", devices=1, precision="64-true"))
    second.training_step(batch(), 1)
    moments = [moment["exp_avg"] for moment in second.generator.optimizer.state.values()]
    assert {moment.dtype for moment in moments} == {torch.float64}


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "64-true"])
@pytest.mark.parametrize("ema", [None, 0.9])
def test_translations_are_float32_in_every_precision(precision: Any, ema: float | None) -> None:
    made = method(fabric=False, ema=ema)
    made.setup(Fabric(accelerator="cpu", devices=1, precision=precision))
    made.training_step(batch(), 0)
    assert made.translate(batch().source).dtype == torch.float32


def test_a_translation_that_fails_leaves_every_mode_alone() -> None:
    made = method(small())
    network: Any = made.networks()["generator"]
    network.module.eval()
    with pytest.raises(ValueError, match="three voxels"):
        made.translate(torch.zeros(1, 1, 3, 3, 3))
    assert (network.training, network.module.training) == (True, False)


def test_a_subclass_changes_one_term_and_keeps_the_rest() -> None:
    class Doubled(PairedMethod):
        def generator_losses(self, inputs: LossInputs) -> dict[str, Tensor]:
            return {name: 2 * term for name, term in super().generator_losses(inputs).items()}

    torch.manual_seed(0)
    doubled, plain = Doubled(parts(**L1_ALONE)), method(parts(**L1_ALONE), fabric=False)
    assert doubled.training_step(batch(), 0)["l1"] == 2 * plain.training_step(batch(), 0)["l1"]


def test_in_half_precision_the_scale_travels_with_the_checkpoint_and_overflow_is_no_fault(tmp_path: Path) -> None:
    def fp16() -> tuple[PairedMethod, Any]:
        precision = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=2.0**20))
        fabric = Fabric(accelerator="cpu", devices=1, plugins=[precision])
        torch.manual_seed(0)
        made = PairedMethod(parts(**L1_ALONE))
        made.setup(fabric)
        return made, fabric.strategy.precision

    made, precision = fp16()
    for step in range(3):
        assert "generator_gradient_norm" not in made.training_step(batch(), step)
    state = TrainingState(3).state(made, precision)
    assert state["precision"]["scale"] < 2.0**20
    checkpoint.save(tmp_path, 3, {name: net.state_dict() for name, net in made.networks().items()}, state,
                    config_hash="c0ffee", keep=2)  # fmt: skip
    other, restored = fp16()
    found = checkpoint.newest(tmp_path)
    assert found is not None
    resume(other, found, restored)
    assert restored.state_dict() == precision.state_dict()
    for step in range(3, 6):
        made.training_step(batch(), step)
        other.training_step(batch(), step)
    assert same(parameters_of(made.networks()["generator"]), parameters_of(other.networks()["generator"]))
