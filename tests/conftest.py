"""What many tests share: plugins that look installed, and a tiny config on the phantom."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import hypothesis
import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # one thread each, read when torch is imported, or they wait for each other
    os.environ["OMP_NUM_THREADS"] = "1"

import torch

from medtrans.cli.app import main
from medtrans.distributed.determinism import choose_repeatable_kernels
from medtrans.plugins import discovery

choose_repeatable_kernels()  # as the program does, before anything is computed
hypothesis.settings.register_profile("medtrans", derandomize=True, deadline=None, max_examples=30)
hypothesis.settings.load_profile("medtrans")

GENERATOR_PLUGIN = '''
"""A generator in one file."""
from torch import nn

from medtrans import Component, hookimpl


class Small(nn.Module):
    """One convolution.

    Args:
        width: channels between.
    """

    def __init__(self, in_channels: int, out_channels: int, *, width: int = 4) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv3d(in_channels, width, 3, padding=1), nn.ReLU(), nn.Conv3d(width, out_channels, 1)
        )

    def forward(self, source):
        return self.body(source)


@hookimpl
def medtrans_generators():
    return [Component("small", Small), Component("mdaunet", Small)]
'''
Install = Callable[..., Path]
Medtrans = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that imports a plugin has time for it, however much else the machine has to do."""
    monkeypatch.setattr("medtrans.plugins.probe.LIMIT_S", 200.0)


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """The last bit of a sum depends on the number of threads: a test that changes it does so for itself alone."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Sizes of the tests that are worth running longer than in every change."""
    group = parser.getgroup("medtrans", "sizes of medtrans' own tests")
    group.addoption("--kills", type=int, default=20, help="runs that are killed and resumed")
    group.addoption("--flips", type=int, default=100, help="flipped bits in checkpoints, and a quarter as many cuts")
    group.addoption("--soak-minutes", type=float, default=1.0, help="how long the soak test trains")
    group.addoption("--streamed-side", type=int, default=256, help="sides of the volume that is translated in slabs")
    group.addoption("--downstream-subjects", type=int, default=24, help="phantoms in the order of segmenters")


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Make a module look like a pip-installed plugin, the only one beside medtrans: `install("swin", code)`."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    others = {point.dist.name for point in entry_points(group=discovery.GROUP) if point.dist} - {"medtrans"}
    monkeypatch.setattr(
        discovery,
        "entry_points",
        lambda group: [one for one in entry_points(group=group) if one.dist and one.dist.name not in others],
    )
    modules = set(sys.modules)

    def install(
        entry_point: str, code: str, *, distribution: str = "", version: str = "1.2.3", module: str = ""
    ) -> Path:
        distribution = distribution or f"medtrans-{entry_point}"
        module = module or f"plugin_{distribution.replace('-', '_')}"
        path = site / f"{module}.py"
        path.write_text(code, encoding="utf-8")
        info = site / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[medtrans]\n{entry_point} = {module}\n")
        monkeypatch.setenv("PYTHONPATH", str(site))
        return path

    yield install
    for name in set(sys.modules) - modules:
        if name.startswith("plugin_"):
            del sys.modules[name]


@pytest.fixture
def tiny(tmp_path: Path) -> dict[str, Any]:
    """A whole run on the phantom that takes seconds."""
    return {
        "output_dir": str(tmp_path / "run"),
        "dataset": {"name": "phantom", "options": {"subjects": 5, "size": [24, 24, 24]}},
        "source": ["t1"],
        "target": ["t2"],
        "preprocess": {"intensity": {"t1": {"name": "percentile"}, "t2": {"name": "percentile"}}},
        "patch": {"size": [16, 16, 16]},
        "generator": {"name": "mdaunet", "options": {"preset": "fast", "width": 4, "growth": [4, 4]}},
        "discriminator": {"name": "multires_unet", "options": {"width": 2, "convs": 1}},
        "losses": {"l1": {}, "relativistic": {"weight": 1e-4}},
        "train": {
            "steps": 4,
            "batch": 2,
            "workers": 0,
            "validate_every": 2,
            "checkpoint_every": 2,
            "validation_cases": 1,
        },
        "inference": {"overlap": 0.25, "batch": 4},
    }


@pytest.fixture
def medtrans(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Medtrans:
    """Run a command in this process; returns exit code, stdout and stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["medtrans", *arguments])
        code = 0
        try:
            main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return run
