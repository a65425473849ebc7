"""Whole runs: the authors' settings, volumes of any size, and what the small config reaches."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

import medtrans
from medtrans.plugins.optimizers import SCHEDULES
from medtrans.types import DiscriminatorOutput, LossInputs
from medtrans_ptnet3d.feature_matching import FeatureMatching

CONFIGS = Path(__file__).parents[1] / "configs"
SHORT = [
    "dataset.options.subjects=5", "dataset.options.size=[24,24,24]", "patch.size=[16,16,16]",
    "train.checkpoint_every=2", "train.validation_cases=1", "train.schedule.name=constant",
]  # fmt: skip


def published() -> dict[str, Any]:
    settings: dict[str, Any] = yaml.safe_load((CONFIGS / "ptnet3d.yaml").read_text())
    return settings


def weights(folder: medtrans.RunFolder) -> dict[str, dict[str, torch.Tensor]]:
    last = json.loads((folder.checkpoints / "last.json").read_text())["checkpoint"]
    return {path.stem: load_file(path) for path in (folder.checkpoints / last).glob("*.safetensors")}


def short(folder: Path, *more: str, resume: bool = False) -> medtrans.RunFolder:
    return medtrans.run(CONFIGS / "small_ptnet3d.yaml", [*SHORT, f"output_dir={folder}", *more], resume=resume)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> medtrans.RunFolder:
    return short(tmp_path_factory.mktemp("whole") / "run", "train.steps=4")


@pytest.mark.soak
def test_a_run_cut_short_and_resumed_ends_as_the_one_left_alone(whole: medtrans.RunFolder, tmp_path: Path) -> None:
    short(tmp_path / "cut", "train.steps=2")
    resumed = short(tmp_path / "cut", "train.steps=4", resume=True)
    expected, found = weights(whole), weights(resumed)
    assert expected.keys() == found.keys() == {"generator", "discriminator"}
    for network, tensors in expected.items():
        assert all(torch.equal(tensor, found[network][name]) for name, tensor in tensors.items())


def test_a_volume_of_odd_size_comes_back_on_its_own_grid(whole: medtrans.RunFolder) -> None:
    affine = np.diag([1.5, -2.0, 3.0, 1.0])
    volume = np.random.default_rng(0).random((21, 37, 7)).astype(np.float32)
    output = medtrans.load(whole.path).translate(volume, affine)
    assert output.data.shape == volume.shape
    np.testing.assert_allclose(output.affine, affine)
    assert np.isfinite(output.data).all()


def test_the_rate_falls_in_a_line_to_an_epoch_at_a_thousandth() -> None:
    train = yaml.safe_load((CONFIGS / "ptnet3d.yaml").read_text())["train"]
    length = train["epoch_steps"]
    schedule = SCHEDULES[train["schedule"]["name"]](**train["schedule"]["options"])
    assert train["steps"] == 2000 * length
    for epoch in range(2000):
        expected = 1 - max(0, epoch - 1000) / 1000
        for step in (epoch * length, (epoch + 1) * length - 1):
            assert schedule.factor(step, train["steps"], length) == pytest.approx(expected, abs=1e-12)


def test_the_authors_other_settings() -> None:
    settings = published()
    assert settings["train"]["optimizer"] == {"name": "adam", "options": {"lr": 2e-4, "betas": [0.9, 0.999]}}
    assert settings["train"]["batch"] == 4
    assert settings["patch"] == {"size": [64, 64, 64], "per_volume": 1, "foreground": 0.0}
    assert settings["method"]["options"]["order"] == "generator_first"
    assert (settings["inference"]["overlap"], settings["inference"]["blend"]) == (0.5, "constant")


def test_the_weights_of_losses_are_the_authors_on_their_range() -> None:
    slots = published()["losses"]
    torch.manual_seed(0)
    prediction, target = torch.rand(2, 2, 1, 8, 8, 8)
    real, fake = (
        DiscriminatorOutput(
            tuple(torch.randn(2, 1, side, side, side) for side in (5, 4, 3)),
            tuple(tuple(torch.randn(2, 3, side, side, side) for _ in range(3)) for side in (5, 4, 3)),
        )
        for _ in range(2)
    )
    inputs = LossInputs((target,), (target,), (prediction,), None, real, fake, 0, "generator")
    losses = {
        "l2": medtrans.component("loss", "l2").factory(levels=1),
        "lsgan": medtrans.component("loss", "lsgan").factory(),
        "ptnet3d:feature_matching": FeatureMatching(),
    }
    total = sum(slots[name]["weight"] * loss(inputs) for name, loss in losses.items())
    reconstruction = ((2 * prediction - 1) - (2 * target - 1)).square().mean()
    adversarial = sum((logit - 1).square().mean() for logit in fake.logits)
    matching = sum(
        (f - r).abs().mean() / 3
        for fs, rs in zip(fake.features, real.features, strict=True)
        for f, r in zip(fs, rs, strict=True)
    )
    torch.testing.assert_close(total, 100 * reconstruction + 1 * adversarial + 10 * matching)
    assert slots["ptnet3d:video_perceptual"]["weight"] == 10
    judged = sum(
        (f.square().mean() + (r - 1).square().mean()) / 2 for f, r in zip(fake.logits, real.logits, strict=True)
    )
    torch.testing.assert_close(losses["lsgan"].discriminator_loss(inputs), judged)


@pytest.mark.soak
def test_an_earlier_form_without_adversary_is_a_few_words_away(tmp_path: Path) -> None:
    folder = short(
        tmp_path / "run",
        "train.steps=1",
        "discriminator=null",
        "losses.lsgan=null",
        "losses.ptnet3d:feature_matching=null",
    )
    assert weights(folder).keys() == {"generator"}


@pytest.mark.parametrize("config", sorted(path.name for path in CONFIGS.glob("*.yaml")))
def test_each_config_names_what_there_is(config: str, tmp_path: Path) -> None:
    # The dataset's folder is not there, and nothing else is wrong: options are checked before any case is looked for.
    with pytest.raises(medtrans.DataError, match="nowhere"):
        medtrans.check(CONFIGS / config, ["dataset={name: dhcp, options: {root: /nowhere}}", f"output_dir={tmp_path}"])


@pytest.mark.slow
def test_the_lines_of_the_readme_swap_it_into_the_quickstart(tmp_path: Path) -> None:
    lines = (CONFIGS.parent / "README.md").read_text().partition("```yaml\n")[2].partition("```")[0]
    swapped = yaml.safe_load(lines)
    swapped["losses"] = dict.fromkeys(("l1", "perceptual_25d", "relativistic")) | swapped["losses"]
    smaller = ["train.steps=1", "train.validation_cases=1", "dataset.options={subjects: 6, size: [32, 32, 32]}"]
    folder = medtrans.run(["quickstart", swapped], [*smaller, f"output_dir={tmp_path / 'run'}"])
    saved = yaml.safe_load(folder.config.read_text())
    assert saved["generator"]["name"].startswith("ptnet3d:")
    assert saved["discriminator"]["name"].startswith("ptnet3d:")
    assert saved["losses"].keys() == yaml.safe_load(lines)["losses"].keys()


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_the_small_config_beats_the_better_trivial_baseline(tmp_path: Path) -> None:
    folder = medtrans.run(CONFIGS / "small_ptnet3d.yaml", [f"output_dir={tmp_path / 'run'}"])
    summary = json.loads(folder.summary.read_text())
    for metric in ("psnr", "ssim"):
        trivial = max(scores[metric]["mean"] for scores in summary["baselines"].values())
        assert summary["metrics"][metric]["mean"] > trivial
    affine = np.diag([2.0, 2.5, 3.0, 1.0])
    volume = np.random.default_rng(0).random((51, 75, 33)).astype(np.float32)
    output = medtrans.load(folder.path).translate(volume, affine)
    assert output.data.shape == volume.shape
    np.testing.assert_allclose(output.affine, affine)
