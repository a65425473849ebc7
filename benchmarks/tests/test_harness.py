"""`python -m benchmarks CONFIG`: what it reports holds together, on any method, and it leaves nothing behind."""

from __future__ import annotations

import json
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from benchmarks import roofline
from benchmarks.__main__ import main
from benchmarks.harness import ceilings, libraries, loader, windows
from benchmarks.harness.reference_step import PlainStep
from benchmarks.harness.report import measure, tables
from benchmarks.harness.step_parts import OTHER, Work, amounts, losses_of, recorded
from benchmarks.harness.steps import counted
from benchmarks.harness.subject import opened_subject
from benchmarks.harness.timing import Spread, alternated
from benchmarks.tests import GAN
from medtrans.config.loading import load_config


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes at which a measurement means nothing but takes no time."""
    monkeypatch.setattr(ceilings, "_shapes", lambda *, large: ((4, 8),))
    monkeypatch.setattr(loader, "_LONGEST_S", 0.1)
    monkeypatch.setattr(windows, "_REPEATS", 1)
    monkeypatch.setattr(libraries, "_REPEATS", 1)


@pytest.fixture
def gan(tmp_path: Path) -> dict[str, Any]:
    return {**deepcopy(GAN), "output_dir": str(tmp_path / "run")}


def check_relations(found: dict[str, Any]) -> None:
    """What must hold of any report."""
    step = found["step"]
    assert 0 < step["fraction_of_ceiling"] <= 1.5
    whole, parts = step["seconds"], step["parts"]
    assert whole["low"] <= whole["median"] <= whole["high"]
    assert sum(part["seconds"]["median"] for part in parts) == pytest.approx(whole["median"], rel=0.25)
    assert sum(part["operations"] for part in parts) == pytest.approx(step["operations"])
    assert found["ceilings"]["copy_bytes_per_s"]["median"] > 0
    assert found["windows"]["windows"] >= 1


def test_a_gans_step_is_told_by_part_and_compared(
    gan: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    config, report = tmp_path / "c.yaml", tmp_path / "bench.json"
    config.write_text(yaml.safe_dump(gan))
    words = ["--steps", "1", "--against", "reference", "--against", "torchio", "--json", str(report)]
    monkeypatch.setattr(sys, "argv", ["benchmarks", str(config), *words])
    with pytest.raises(SystemExit) as ended:
        main()

    assert ended.value.code in (None, 0)
    assert "discriminator" in capsys.readouterr().out
    found = json.loads(report.read_text())
    check_relations(found)
    operations = {part["name"]: part["operations"] for part in found["step"]["parts"]}
    assert next(iter(operations)) == "data"
    assert set(operations) >= {
        "generator forward", "discriminator update", "loss l1", "loss perceptual_25d", "loss relativistic",
        "generator backward", "generator optimiser",
    }  # fmt: skip
    assert operations["generator backward"] == pytest.approx(2 * operations["generator forward"], rel=0.3)
    assert set(found["against"]["reference"]["seconds"]) == {"step", "naive", "reference"}
    assert found["against"]["torchio"]["ratios"]["loader"] > 0
    assert not Path(gan["output_dir"]).exists()
    assert not list((tmp_path / "temporary").iterdir())


def test_any_method_is_measured_and_only_paired_compared_with_the_plain_steps(gan: dict[str, Any]) -> None:
    unpaired = {**gan, "method": {"name": "cycle"}, "losses": {"lsgan": {}, "l1": {}}}
    found = measure(load_config([unpaired]), steps=1, against=["reference"])
    check_relations(found)
    assert "cycle" in found["against"]["reference"]["left_out"]
    assert list(tables(found))
    assert losses_of(object()) == {}, "of a method that does not keep its parts"


def test_what_a_discriminators_update_takes_is_one_row_and_a_shared_forward_is_the_generators() -> None:
    works = [
        Work("forward", "generator"), OTHER, Work("forward", "discriminator"), Work("backward"),
        Work("backward", "discriminator"), Work("optimiser", "discriminator"), Work("forward", "discriminator"),
        Work("loss", "l1"), Work("backward"), Work("backward", "discriminator"), Work("backward", "generator"),
        Work("optimiser", "generator"), OTHER,
    ]  # fmt: skip
    segments = [(work, 2**n, 2 ** (n + 1)) for n, work in enumerate(works)]
    found = amounts(segments, {"generator", "generator_average"}, lambda first, second: float(second - first))
    assert found == {
        "generator forward": 1,
        "discriminator update": 2 + 4 + 8 + 16 + 32,
        "discriminator forward in the update of generator": 64,
        "loss l1": 128,
        "losses backward": 256,
        "discriminator backward in the update of generator": 512,
        "generator backward": 1024,
        "generator optimiser": 2048,
        "other": 4096,
    }


def test_a_watched_step_leaves_the_weights_bit_for_bit_and_the_watching_ends(gan: dict[str, Any]) -> None:
    with opened_subject(load_config([gan])) as subject, subject.batches() as batches:
        batch = next(batches)
        other = subject.another_method()
        backward = torch.autograd.backward
        with recorded(subject.method, lambda: 0):
            subject.method.training_step(batch, 0)
        assert torch.autograd.backward is backward
        assert not any(network._forward_hooks for network in subject.method.networks().values())
        other.training_step(batch, 0)
        for name, network in subject.method.networks().items():
            theirs = other.networks()[name].state_dict()
            assert all(torch.equal(tensor, theirs[key]) for key, tensor in network.state_dict().items())


def test_the_naive_step_does_what_the_methods_own_step_does(gan: dict[str, Any]) -> None:
    gan["train"]["precision"] = "64-true"
    gan["generator"]["options"]["spectral_norm"] = False  # a second forward moves its estimate
    with opened_subject(load_config([gan])) as subject, subject.batches() as batches:
        batch = next(batches)
        plain: Any = subject.another_method()
        step = PlainStep(plain, three_copies=False)
        for number in range(2):
            subject.method.training_step(batch, number)
            step.training_step(batch, number)
        for name, network in subject.method.networks().items():
            theirs = plain.networks()[name].state_dict()
            for key, tensor in network.state_dict().items():
                torch.testing.assert_close(tensor, theirs[key], rtol=0, atol=1e-8)  # Adam moves by 1e-4


def test_a_spread_and_turns() -> None:
    turns: list[str] = []
    found = alternated({"a": lambda: turns.append("a") or 1.0, "b": lambda: turns.append("b") or 2.0}, 2)
    assert turns == ["a", "b", "a", "b"]
    spread = Spread.of([*found["a"], *found["b"]])
    assert (spread.low, spread.median, spread.high, spread.repeats) == (1.0, 1.5, 2.0, 4)
    assert Spread.of_ratios(found["b"], found["a"]).median == 2.0
    rate = spread.per(4.0)
    assert (rate.low, rate.high) == (2.0, 4.0)


def test_the_roofline_follows_the_operations_that_a_real_step_does(gan: dict[str, Any]) -> None:
    experiment = load_config([gan])
    shapes = roofline.Roofline(flops=1e9, bandwidth=1e9)
    roofline.follow(experiment, shapes)
    with opened_subject(experiment) as subject, subject.batches() as batches:
        real = counted(subject.method, next(batches), subject.method.training_step, {"generator"})
    assert shapes.operations == pytest.approx(sum(real.values()))
    assert sum(shapes.seconds.values()) >= max(shapes.operations, shapes.moved) / 1e9
