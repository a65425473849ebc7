"""The comparison of methods: it finds everything, counts rightly, and its page says what was measured."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from .conftest import GENERATOR_PLUGIN, Install

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """`docs/methods_compared.py` as a module."""
    monkeypatch.syspath_prepend(str(DOCS))
    yield import_module("methods_compared")
    for name in [name for name in sys.modules if name.partition(".")[0] in ("methods_compared", "compared")]:
        del sys.modules[name]


@pytest.fixture
def measuring(script: ModuleType) -> ModuleType:
    return import_module("compared.measuring")


def small(script: ModuleType) -> object:
    """A system of seconds, with a discriminator, a loss that reads a file, and a method."""
    layers = {
        "output_dir": "x",
        "dataset": {"name": "phantom"},
        "source": ["t1"],
        "target": ["t2"],
        "preprocess": {"intensity": {"t1": {"name": "minmax"}, "t2": {"name": "minmax"}}},
        "patch": {"size": [8, 8, 8]},
        "generator": {"name": "unet", "options": {"width": 2, "levels": 3}},
        "discriminator": {"name": "multires_unet", "options": {"width": 2, "convs": 1, "levels": 1}},
        "losses": {
            "l1": {},
            "lsgan": {},
            "perceptual_25d": {"options": {"weights": "imagenet", "taps": ["relu1_2"], "slices_per_view": 1}},
        },
        "train": {"batch": 2, "optimizer": {"name": "adam", "options": {"lr": 0.0002}}},
    }
    return script.System("small", (layers,), "published")


def test_every_generator_and_every_published_config_takes_part(script: ModuleType, install: Install) -> None:
    install("swin", GENERATOR_PLUGIN)
    found = {system.name: system for system in script.systems()}
    named = {one.experiment().slots["generator",].found.name for one in found.values()}
    assert {"builtin:mdaunet", "builtin:unet", "swin:small", "swin:mdaunet"} <= named
    assert found["pix2pix_3d"].settings == "published"
    assert found["swin:small"].settings == "defaults"
    assert not [name for name in found if name.startswith("quickstart")]
    # The paper's six experiments train one system: one row.
    assert (
        len([one for one in found.values() if one.experiment().slots["generator",].found.name == "builtin:mdaunet"])
        == 1
    )


def test_multiply_accumulates_are_those_of_the_convolutions(measuring: ModuleType) -> None:
    def twice() -> nn.Module:
        return nn.Sequential(nn.Conv3d(2, 3, 3, padding=1), nn.ReLU(), nn.ConvTranspose3d(3, 4, 2, stride=2))

    output, macs = measuring.followed(twice, torch.empty(1, 2, 4, 5, 6))
    assert output.device.type == "meta"
    assert macs == 120 * 2 * 3 * 27 + 120 * 3 * 4 * 8


class Looking(nn.Module):
    """Its way depends on a number, which shapes alone do not have."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(1, 1, 1)

    def forward(self, source: Tensor) -> Tensor:
        return self.conv(source) if source.sum().item() < 1e30 else source


def test_a_network_that_shapes_cannot_follow_is_run(measuring: ModuleType) -> None:
    output, macs = measuring.followed(Looking, torch.zeros(1, 1, 3, 3, 3))
    assert output.device.type == "cpu"
    assert macs == 27


def test_sizes_are_the_configs_and_losses_need_no_files(script: ModuleType, measuring: ModuleType) -> None:
    found = measuring.sizes(small(script))
    assert (found["patch"], found["batch"], found["generator"]) == ([8, 8, 8], 2, "unet")
    generator = (
        script.System("small", small(script).layers, "published")
        .experiment()
        .build("generator", in_channels=1, out_channels=1, patch_size=(8, 8, 8))
    )
    assert found["generator_parameters"] == sum(one.numel() for one in generator.parameters())
    assert found["generator_macs"] > 0
    assert found["discriminator_macs"] > 0
    cost = measuring.step(small(script), common=False)
    assert cost["seconds"] > 0
    assert cost["bytes"] >= 0


def test_the_common_size_is_one_patch_of_48(script: ModuleType, measuring: ModuleType) -> None:
    experiment = measuring.without_files(small(script), ["train.batch=1", f"patch.size={list(measuring.COMMON)}"])
    method = measuring.make_method(experiment, training_cases=1)
    assert measuring.noise(experiment, method).source.shape == (1, 1, 48, 48, 48)


def test_the_pages_table_is_that_of_the_numbers(script: ModuleType) -> None:
    page = (DOCS / "methods-compared.md").read_text(encoding="utf-8")
    measured = json.loads((DOCS / "methods_compared.json").read_text(encoding="utf-8"))
    assert script.with_table(page, measured) == page, "run python docs/methods_compared.py --render"
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert len(rows) == len(measured["systems"]) >= 2


def test_what_failed_is_said_in_the_table(script: ModuleType) -> None:
    row = import_module("compared.page").row
    one = {
        "settings": "trial",
        "patch": [96, 96, 96],
        "batch": 1,
        "generator": "g",
        "generator_parameters": 12_345_678,
        "generator_macs": 2 * 10**12,
        "CPU": {"failed": "over 300 s"},
        "GPU": {"seconds": 0.25, "bytes": 3 * 2**30},
    }
    assert row("sys", one) == (
        "`sys` ²", "96×96×96 × 1", "`g`", "12.3", "2000", "–", "–", "–", "over 300 s", "over 300 s", "4", "3",
    )  # fmt: skip
