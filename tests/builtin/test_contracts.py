"""Every built-in component keeps the contract of its kind, tried by the kit that plugin authors use."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medtrans.builtin.losses.vgg import VGG16
from medtrans.plugins.discovery import discover
from medtrans.plugins.registry import BUILTIN, Registry
from medtrans.testing.kits import KITS
from medtrans.volume import Volume, write
from tests.builtin.trees import LAYOUTS

QUARTER = np.full((8, 8, 8), 0.25, np.float32)
HALF = np.full((8, 8, 8), 0.5, np.float32)
HALVES = np.concatenate([np.zeros((4, 8, 8), np.float32), np.ones((4, 8, 8), np.float32)])
TRIALS: dict[tuple[str, str], list[dict[str, Any]]] = {
    ("generator", "mdaunet"): [{}, {"options": {"preset": "fast", "width": 4}}],
    ("loss", "l2"): [{}, {"options": {"masked": True}}],
    ("loss", "relativistic"): [{}, {"options": {"form": "paired"}}],
    ("metric", "psnr"): [{"known": [(QUARTER, HALF, 20 * math.log10(4))]}],
    ("metric", "ssim"): [{"known": [(QUARTER, HALF, (2 * 0.125 + 1e-4) / (0.0625 + 0.25 + 1e-4))]}],
    ("metric", "nmse"): [
        {"known": [(HALF, HALVES, 1.0)]},
        {"options": {"norm": "energy"}, "known": [(HALF, HALVES, 0.5)]},
    ],
    ("metric", "mae"): [{"known": [(QUARTER, HALF, 0.25)]}],
    ("metric", "mse"): [{"known": [(QUARTER, HALF, 0.0625)]}],
    ("metric", "rmse"): [{"known": [(QUARTER, HALF, 0.25)]}],
    ("metric", "ncc"): [{"known": [(1 - HALVES, HALVES, -1.0)]}],
    ("metric", "dose_mae"): [{"known": [(QUARTER, HALF, 0.5)]}],
    ("method", "paired"): [{}, {"options": {"ema": 0.9, "pool_size": 2, "clip_norm": 1.0, "order": "generator_first"}}],
}
"""Settings beside those that the components bring with them: other options, scores that are known."""
SLOW = ("lpips",)
"""Components that take minutes on a small machine."""
QUICK = ("torchio:random_flip", "torchio:random_noise")
"""Of TorchIO's transforms, one that is geometric and one that is not; the others, and second trials, are slow tests."""


def components() -> list[Any]:
    """Every component that comes with medtrans, once for each of its trials."""
    registry = Registry()
    found = []
    for origin in discover():
        if origin.own:
            prefix = "" if origin.prefix == BUILTIN else f"{origin.prefix}:"
            for kind, bare in registry.plugin(origin.prefix).components:
                name = f"{prefix}{bare}"
                many = name.startswith("torchio:") and name not in QUICK
                for number, settings in enumerate(TRIALS.get((kind, name), [{}])):
                    slow = many or number > 0 or name in SLOW
                    marks = [pytest.mark.slow, pytest.mark.timeout(900)] if slow else []
                    found.append(pytest.param(kind, name, settings, id=f"{kind} {name} {number}", marks=marks))
    return found


def collection(name: str, root: Path) -> dict[str, Any]:
    """A small collection of real images on disk, as the options of its dataset."""
    layouts = {layout.dataset.__name__.lower(): layout for layout in LAYOUTS}
    layout = layouts.get(name.replace("_", ""))
    files = ("a_t1.nii.gz", "a_t2.nii.gz") if layout is None else layout.files
    image = Volume(np.random.default_rng(0).integers(1, 100, (8, 8, 8)).astype(np.int16), np.eye(4))
    for file in (name.replace(".mha", ".nii.gz") for name in files):
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        write(image, root / file)
    if layout is None:
        (root / "train.csv").write_text("subject,t1,t2\na,a_t1.nii.gz,a_t2.nii.gz\n", encoding="utf-8")
        return {"path": root / "train.csv"}
    return {**layout.options, "root": root}


def lpips_files(root: Path) -> dict[str, Any]:
    """Weights of the right shapes, as the options of LPIPS."""
    torch.save(VGG16(("relu5_3",)).state_dict(), root / "trunk.pth")
    widths = enumerate((64, 128, 256, 512, 512))
    torch.save(
        {f"lin{layer}.model.1.weight": torch.ones(1, width, 1, 1) for layer, width in widths}, root / "linear.pth"
    )
    return {"trunk": root / "trunk.pth", "linear": root / "linear.pth"}


@pytest.mark.parametrize(("kind", "name", "settings"), components())
def test_a_builtin_keeps_the_contract_of_its_kind(
    kind: str, name: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    if kind == "dataset" and name != "phantom":
        settings = {"options": collection(name, tmp_path)}
    if name == "lpips":
        settings = {"options": lpips_files(tmp_path)}
    KITS[kind].check(name, **settings)
