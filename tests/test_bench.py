"""`medtrans bench`: what it reports holds together, on any method, and it leaves nothing behind."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from medtrans.bench import against_torchio, ceilings, loader, windows
from medtrans.bench.others import unless_missing
from medtrans.bench.parts import amounts
from medtrans.bench.plain_step import PlainStep
from medtrans.bench.recorder import OTHER, Work, recorded
from medtrans.bench.report import measure
from medtrans.bench.shown import tables
from medtrans.bench.spread import Spread, alternated
from medtrans.bench.steps import counted
from medtrans.bench.subject import opened_subject
from medtrans.config import load_config

from .conftest import Medtrans

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
METHOD_PLUGIN = '''
"""A method that keeps nothing the bench could look into."""
import torch
from medtrans import Component, Method, hookimpl


class Bare(Method):
    """One network, one optimiser."""

    def __init__(self, parts):
        self._network = parts.make_generator(parts.source_channels, parts.target_channels)
        self._optimizer = parts.make_optimizer(self._network.parameters(), "generator")

    def networks(self):
        return {"translator": self._network}

    def setup(self, fabric):
        self._network.to(fabric.device)

    def training_step(self, batch, step):
        self._optimizer.zero_grad()
        loss = (self._network(batch.source)[0] - batch.target).abs().mean()
        loss.backward()
        self._optimizer.step()
        return {"loss": loss.detach()}

    def translate(self, source):
        with torch.no_grad():
            return self._network(source)[0].clamp(0, 1)

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


@hookimpl
def medtrans_methods():
    return [Component("bare", Bare)]
'''


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes at which a measurement means nothing but takes no time."""
    monkeypatch.setattr(ceilings, "_shapes", lambda *, large: ((4, 8),))
    monkeypatch.setattr(loader, "_LONGEST_S", 0.1)
    monkeypatch.setattr(windows, "_REPEATS", 1)
    monkeypatch.setattr(against_torchio, "REPEATS", 1)


@pytest.fixture
def gan(tiny: dict[str, Any]) -> dict[str, Any]:
    """With a perceptual loss beside the adversary."""
    tiny["dataset"]["options"] = {"subjects": 3, "size": [20, 20, 20]}
    tiny["losses"]["perceptual_25d"] = {"options": {"weights": "random", "taps": ["relu1_2"]}}
    tiny["split"] = {"by": "fractions", "train": 0.34, "validation": 0.33, "test": 0.33}
    tiny["train"]["batch"] = 1
    return tiny


@pytest.fixture
def bare(gan: dict[str, Any], tmp_path: Path) -> tuple[dict[str, Any], Path]:
    plugin = tmp_path / "mine.py"
    plugin.write_text(METHOD_PLUGIN)
    return {**gan, "method": {"name": "mine:bare"}, "discriminator": None, "losses": {"l1": {}}}, plugin


def check_relations(found: dict[str, Any]) -> None:
    """What must hold of any report."""
    step = found["step"]
    assert 0 < step["fraction_of_ceiling"] <= 1.5
    whole, parts = step["seconds"], step["parts"]
    assert whole["low"] <= whole["median"] <= whole["high"]
    assert sum(part["seconds"]["median"] for part in parts) == pytest.approx(whole["median"], rel=0.25)
    assert sum(part["operations"] for part in parts) == pytest.approx(step["operations"])
    assert all(part["fraction_of_ceiling"] is None or part["fraction_of_ceiling"] > 0 for part in parts)
    assert step["peak_bytes"] > 1e6
    assert found["ceilings"]["copy_bytes_per_s"]["median"] > 0
    assert found["loader"]["slow"] in ("loader", "step")
    assert found["windows"]["windows"] >= 1
    assert found["windows"]["overhead_seconds"]["median"] > 0
    assert found["remarks"]


def test_a_gans_step_is_told_by_part_and_compared(
    medtrans: Medtrans, gan: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    gan["inference"] = {**gan.get("inference", {}), "overlap": None}
    config, report = tmp_path / "c.yaml", tmp_path / "bench.json"
    config.write_text(yaml.safe_dump(gan))
    words = ["--steps", "1", "--against", "reference", "--against", "torchio", "--json", str(report)]
    code, out, err = medtrans("bench", str(config), *words)
    assert code == 0, err
    found = json.loads(report.read_text())
    check_relations(found)
    named = [part["name"] for part in found["step"]["parts"]]
    for name in (
        "data", "generator forward", "discriminator update", "loss l1", "loss perceptual_25d", "loss relativistic",
        "generator backward", "generator optimiser",
    ):  # fmt: skip
        assert name in named
        assert name in " ".join(out.split()) or " " in name  # a narrow terminal breaks names
    assert named.index("data") == 0
    by_name = {part["name"]: part["operations"] for part in found["step"]["parts"]}
    assert by_name["generator backward"] == pytest.approx(2 * by_name["generator forward"], rel=0.3)
    assert set(found["against"]["reference"]["seconds"]) == {"step", "naive", "reference"}
    assert found["against"]["torchio"]["ratios"]["loader"] > 0
    assert not Path(gan["output_dir"]).exists()
    assert not list((tmp_path / "temporary").iterdir())


def test_a_method_that_tells_nothing_of_its_losses_is_still_measured(bare: tuple[dict[str, Any], Path]) -> None:
    config, plugin = bare
    found = measure(load_config([config], plugins=[plugin]), steps=1, against=["reference"])
    check_relations(found)
    named = {part["name"] for part in found["step"]["parts"]}
    assert {"translator forward", "translator backward", "translator optimiser", "other"} <= named
    assert "mine:bare" in found["against"]["reference"]["left_out"]
    assert list(tables(found))


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["bench", "nowhere.yaml"], 2, "no config file at 'nowhere.yaml'"),
        (["bench", "quickstart", "train.stepz=1"], 2, "did you mean 'steps'?"),
        (["bench", "hcp_t1_t2", "dataset.options.root=/not/there"], 3, "/not/there"),
        (["bench", "quickstart", "--json", "/not/there/x.json"], 2, "there is no folder /not/there"),
    ],
)
def test_mistakes_are_told_as_by_other_verbs(medtrans: Medtrans, words: list[str], code: int, message: str) -> None:
    ended, out, err = medtrans(*words)
    assert (ended, out) == (code, "")
    assert message in err


def test_a_library_that_is_not_installed_is_left_out_in_plain_words() -> None:
    assert "pip install not_there" in unless_missing("not_there", dict)["left_out"]


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


def test_watching_changes_no_step_and_ends(gan: dict[str, Any]) -> None:
    """The weights after a watched step are bit-identical to those after one that nobody watched."""
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
        dearer: Any = subject.another_method()
        step = PlainStep(plain, three_copies=False)
        for number in range(2):
            subject.method.training_step(batch, number)
            step.training_step(batch, number)
        for name, network in subject.method.networks().items():
            theirs = plain.networks()[name].state_dict()
            for key, tensor in network.state_dict().items():
                torch.testing.assert_close(tensor, theirs[key], rtol=0, atol=1e-8)  # Adam moves by 1e-4
        PlainStep(dearer, three_copies=True).training_step(batch, 0)
        once = dearer.networks()["generator"].state_dict()
        assert any(
            not torch.equal(once[key], tensor) for key, tensor in plain.networks()["generator"].state_dict().items()
        )


def test_a_spread_and_turns() -> None:
    turns: list[str] = []
    found = alternated({"a": lambda: turns.append("a") or 1.0, "b": lambda: turns.append("b") or 2.0}, 3)
    assert all(first != second for first, second in pairwise(turns))
    spread = Spread.of([*found["a"], *found["b"]])
    assert (spread.low, spread.median, spread.high, spread.repeats) == (1.0, 1.5, 2.0, 6)
    rate = spread.per(4.0)
    assert (rate.low, rate.high) == (2.0, 4.0)


def test_every_benchmark_is_listed_and_says_what_it_owns() -> None:
    listed = (BENCHMARKS / "README.md").read_text()
    for script in BENCHMARKS.glob("*.py"):
        assert f"`{script.name}`" in listed
        assert script.read_text().startswith('"""Owns ')


def test_the_roofline_follows_the_operations_that_a_real_step_does(
    gan: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.delitem(sys.modules, "roofline", raising=False)
    roofline = import_module("roofline")
    experiment = load_config([gan])
    shapes = roofline.Roofline(flops=1e9, bandwidth=1e9)
    roofline.follow(experiment, shapes)
    with opened_subject(experiment) as subject, subject.batches() as batches:
        real = counted(subject.method, next(batches), subject.method.training_step, {"generator"})
    assert shapes.operations == pytest.approx(sum(real.values()))
    assert shapes.seconds["convolution"] < sum(shapes.seconds.values())
    assert sum(shapes.seconds.values()) >= max(shapes.operations, shapes.moved) / 1e9
