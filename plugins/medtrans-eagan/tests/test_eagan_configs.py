"""The published configs: weights, ramp, rates and window as in the paper's code, read from the files themselves."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch

from medtrans import PairedMethod
from medtrans.config.experiment import Experiment
from medtrans.config.loading import load_config
from medtrans.training.build import make_method
from medtrans.types import DiscriminatorOutput, LossInputs

CONFIGS = Path(__file__).parents[1] / "configs"
PUBLISHED = ["gea_gan.yaml", "dea_gan.yaml", "dea_gan_as_released.yaml"]


@cache
def configured(name: str) -> Experiment:
    return load_config([CONFIGS / name])


@pytest.fixture(scope="module", params=PUBLISHED)
def experiment(request: pytest.FixtureRequest) -> Experiment:
    return configured(request.param)


@pytest.fixture(scope="module")
def made(experiment: Experiment) -> PairedMethod:
    """The config's own method with networks too small to matter here."""
    narrow = ["generator.options={levels: 5, width: 1}", "discriminator.options={width: 1, layers: 1}"]
    method = make_method(load_config([experiment.saved()], narrow), training_cases=240)
    assert isinstance(method, PairedMethod)
    return method


@pytest.mark.parametrize(("epoch", "weight"), [(1, 0), (2, 5), (3, 10), (11, 50), (20, 95), (21, 100), (150, 100)])
def test_the_edge_weight_rises_by_five_an_epoch_to_a_hundred(
    experiment: Experiment, made: PairedMethod, epoch: int, weight: float
) -> None:
    edge, epoch_steps = made.parts.losses["edge"], experiment.config.train.epoch_steps
    assert epoch_steps is not None
    first, last = (epoch - 1) * epoch_steps, epoch * epoch_steps - 1
    assert edge.weight_at(first, epoch_steps) == pytest.approx(weight)
    assert edge.weight_at(last, epoch_steps) == pytest.approx(weight)


@pytest.mark.parametrize(("epoch", "rate"), [(1, 2e-4), (100, 2e-4), (101, 2e-4), (102, 1.96e-4), (150, 4e-6)])
def test_the_rate_falls_in_a_line_from_epoch_101(
    experiment: Experiment, made: PairedMethod, epoch: int, rate: float
) -> None:
    parts, epoch_steps = made.parts, experiment.config.train.epoch_steps
    assert epoch_steps is not None
    assert experiment.config.train.steps == 150 * epoch_steps
    for role in ("generator", "discriminator"):
        optimizer = parts.make_optimizer(iter([torch.nn.Parameter(torch.zeros(1))]), role)
        (group,) = optimizer.param_groups
        assert group["betas"] == (0.5, 0.999)
        for step in ((epoch - 1) * epoch_steps, epoch * epoch_steps - 1):
            assert group["lr"] * parts.learning_rate_factor(step, role) == pytest.approx(rate)


def test_the_generators_sum_is_the_published_one(experiment: Experiment, made: PairedMethod) -> None:
    """1 least squares, 300 times L1 and 100 times edges from epoch 21 on, all in [-1, 1]."""
    epoch_steps = experiment.config.train.epoch_steps
    draw = torch.Generator().manual_seed(0)
    prediction, target = torch.rand(2, 2, 1, 6, 6, 6, generator=draw)
    logits = DiscriminatorOutput((torch.zeros(2, 1, 3, 3, 3),))
    inputs = LossInputs((prediction,), (target,), (prediction,), None, logits, logits, 0, "generator")
    losses = made.parts.losses
    weighted = {
        name: loss.weight_at(20 * epoch_steps, epoch_steps) * float(loss.module(inputs))
        for name, loss in losses.items()
    }
    assert weighted["l1"] == pytest.approx(300 * float((2 * prediction - 2 * target).abs().mean()), rel=1e-5)
    assert weighted["edge"] == pytest.approx(100 * float(losses["edge"].module(inputs)), rel=1e-5)
    assert 0.7**2 <= weighted["lsgan"] <= 1.2**2  # the logits are 0, so that the labels themselves are squared


def test_blocks_batches_and_windows_are_the_published_ones(experiment: Experiment) -> None:
    config = experiment.config
    assert config.patch.size == (128, 128, 128)
    assert config.train.batch == 6
    assert config.inference.window == (128, 128, 128)
    assert (config.inference.overlap, config.inference.blend) == (0.5, "constant")


def test_the_networks_are_the_published_ones() -> None:
    for name, learnt in (("gea_gan.yaml", 11_053_761), ("dea_gan.yaml", 11_057_857)):
        experiment = configured(name)
        with torch.device("meta"):
            generator = experiment.build("generator", in_channels=1, out_channels=1, patch_size=(128,) * 3)
            judge = experiment.build("discriminator", source_channels=1, target_channels=1, patch_size=(128,) * 3)
        assert sum(parameter.numel() for parameter in generator.parameters()) == 167_272_449
        assert sum(parameter.numel() for parameter in judge.parameters()) == learnt


def test_only_the_config_named_so_behaves_as_released() -> None:
    legacy = [configured(name).slots for name in PUBLISHED]
    assert [slots["method",].found.name for slots in legacy] == ["builtin:paired", "builtin:paired", "eagan:legacy"]
    assert [slots["losses", "lsgan"].options.get("legacy_labels", False) for slots in legacy] == [False, False, True]
