"""The comparison of methods: it finds everything, counts rightly, and its page says what was measured."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor, nn

from benchmarks.methods.__main__ import HERE, PAGE
from benchmarks.methods.measuring import followed, sizes, step
from benchmarks.methods.page import row, with_table
from benchmarks.methods.systems import System, systems
from benchmarks.tests import GAN

VGG = {"perceptual_25d": {"options": {"weights": "imagenet", "taps": ["relu1_2"], "slices_per_view": 1}}}
SMALL = System("small", ({**GAN, "losses": {**GAN["losses"], **VGG}},), "published")
"""With a discriminator, and a loss that reads a file."""


@pytest.mark.slow
def test_every_generator_and_every_published_config_takes_part() -> None:
    found = {system.name: system for system in systems()}
    named = [one.experiment().slots["generator",].found.name for one in found.values()]
    assert {"builtin:mdaunet", "builtin:unet"} <= set(named)
    assert found["pix2pix_3d"].settings == "published"
    assert not [name for name in found if name.startswith("quickstart")]
    # The paper's six experiments train one system: one row.
    assert named.count("builtin:mdaunet") == 1


def test_multiply_accumulates_are_those_of_the_convolutions() -> None:
    def twice() -> nn.Module:
        return nn.Sequential(nn.Conv3d(2, 3, 3, padding=1), nn.ReLU(), nn.ConvTranspose3d(3, 4, 2, stride=2))

    output, macs = followed(twice, torch.empty(1, 2, 4, 5, 6))
    assert output.device.type == "meta"
    assert macs == 120 * 2 * 3 * 27 + 120 * 3 * 4 * 8


class Looking(nn.Module):
    """Its way depends on a number, which shapes alone do not have."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(1, 1, 1)

    def forward(self, source: Tensor) -> Tensor:
        return self.conv(source) if source.sum().item() < 1e30 else source


def test_a_network_that_shapes_cannot_follow_is_run() -> None:
    output, macs = followed(Looking, torch.zeros(1, 1, 3, 3, 3))
    assert output.device.type == "cpu"
    assert macs == 27


def test_sizes_are_the_configs_and_losses_need_no_files() -> None:
    found = sizes(SMALL)
    assert (found["patch"], found["batch"], found["generator"]) == ([16, 16, 16], 1, "mdaunet")
    generator = SMALL.experiment().build("generator", in_channels=1, out_channels=1, patch_size=(16, 16, 16))
    assert found["generator_parameters"] == sum(one.numel() for one in generator.parameters())
    assert found["generator_macs"] > 0
    assert found["discriminator_macs"] > 0
    cost = step(SMALL, common=False)
    assert cost["seconds"] > 0
    assert cost["bytes"] >= 0


def test_the_pages_table_is_that_of_the_numbers() -> None:
    page = PAGE.read_text(encoding="utf-8")
    measured = json.loads((HERE / "results.json").read_text(encoding="utf-8"))
    assert with_table(page, measured) == page, "run python -m benchmarks.methods --render"
    assert len([line for line in page.splitlines() if line.startswith("| `")]) == len(measured["systems"])


def test_what_failed_is_said_in_the_table() -> None:
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
