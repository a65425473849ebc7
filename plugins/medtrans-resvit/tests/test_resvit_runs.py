"""Whole runs: the authors' settings, two stages by config, volumes of any size, and what the small configs reach."""

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

CONFIGS = Path(__file__).parents[1] / "configs"
SHORT = [
    "dataset.options.subjects=5", "dataset.options.size=[32,32,24]", "patch.size=[32,32,1]", "train.batch=2",
    "train.checkpoint_every=2", "train.validation_cases=1", "train.schedule.name=constant",
]  # fmt: skip


def settings(name: str) -> dict[str, Any]:
    """A config's own content over what it extends, one level deep in `train`."""
    own = yaml.safe_load((CONFIGS / name).read_text())
    below = settings(own.pop("extends")[0]) if "extends" in own else {}
    return {**below, **own, "train": {**below.get("train", {}), **own["train"]}}


def weights(folder: medtrans.RunFolder) -> dict[str, dict[str, torch.Tensor]]:
    last = json.loads((folder.checkpoints / "last.json").read_text())["checkpoint"]
    return {path.stem: load_file(path) for path in (folder.checkpoints / last).glob("*.safetensors")}


def short(config: str, folder: Path, *more: str, resume: bool = False) -> medtrans.RunFolder:
    return medtrans.run(CONFIGS / config, [*SHORT, f"output_dir={folder}", *more], resume=resume)


@pytest.fixture(scope="module")
def first_stage(tmp_path_factory: pytest.TempPathFactory) -> medtrans.RunFolder:
    return short("small_res_cnn.yaml", tmp_path_factory.mktemp("first") / "run", "train.steps=2")


@pytest.fixture(scope="module")
def second_stage(first_stage: medtrans.RunFolder, tmp_path_factory: pytest.TempPathFactory) -> medtrans.RunFolder:
    return short(
        "small_resvit.yaml",
        tmp_path_factory.mktemp("second") / "run",
        f"train.initialise_from.run={first_stage.path}",
        "train.steps=1",
        "train.optimizer.options.lr=1.0e-12",
    )


@pytest.mark.slow
def test_the_second_stage_begins_with_the_first_ones_generator_and_another_discriminator(
    first_stage: medtrans.RunFolder, second_stage: medtrans.RunFolder
) -> None:
    before, after = weights(first_stage), weights(second_stage)
    learnt = {name for name in before["generator"] if "running" not in name and "tracked" not in name}
    assert learnt < set(after["generator"])
    for name in learnt:
        torch.testing.assert_close(after["generator"][name], before["generator"][name], rtol=0, atol=1e-9)
    assert not torch.allclose(after["discriminator"]["head.weight"], before["discriminator"]["head.weight"])


def test_a_checkpoint_holds_the_shared_transformer_once(second_stage: medtrans.RunFolder) -> None:
    names = [name for name in weights(second_stage)["generator"] if name.endswith("mlp.widen.weight")]
    assert names == ["network.encoder.layers.0.mlp.widen.weight", "network.encoder.layers.1.mlp.widen.weight"]


def test_a_volume_of_odd_size_comes_back_on_its_own_grid(second_stage: medtrans.RunFolder) -> None:
    affine = np.diag([1.5, -2.0, 3.0, 1.0])
    volume = np.random.default_rng(0).random((21, 45, 7)).astype(np.float32)
    output = medtrans.load(second_stage.path).translate(volume, affine)
    assert output.data.shape == volume.shape
    np.testing.assert_allclose(output.affine, affine)
    assert np.isfinite(output.data).all()


def test_a_trained_run_needs_no_vit_weights_any_more(
    first_stage: medtrans.RunFolder, second_stage: medtrans.RunFolder, tmp_path: Path
) -> None:
    config = yaml.safe_load(second_stage.config.read_text())
    config["generator"]["options"]["vit_weights"] = str(tmp_path / "gone.npz")
    with pytest.raises(medtrans.ConfigError, match=r"vit_weights: no file at .*gone\.npz"):
        medtrans.run({**config, "output_dir": str(tmp_path / "run")})
    before = second_stage.config.read_text()
    try:
        second_stage.config.write_text(yaml.safe_dump(config))
        medtrans.load(second_stage.path)
    finally:
        second_stage.config.write_text(before)


@pytest.mark.soak
def test_a_run_cut_short_and_resumed_ends_as_the_one_left_alone(
    first_stage: medtrans.RunFolder, tmp_path: Path
) -> None:
    begin = f"train.initialise_from.run={first_stage.path}"
    whole = short("small_resvit.yaml", tmp_path / "whole", begin, "train.steps=4")
    short("small_resvit.yaml", tmp_path / "cut", begin, "train.steps=2")
    resumed = short("small_resvit.yaml", tmp_path / "cut", begin, "train.steps=4", resume=True)
    expected, found = weights(whole), weights(resumed)
    assert expected.keys() == found.keys() == {"generator", "discriminator"}
    for network, tensors in expected.items():
        assert all(torch.equal(tensor, found[network][name]) for name, tensor in tensors.items())


@pytest.mark.parametrize(
    ("config", "full", "falling"), [("resvit_stage1.yaml", 50, 50), ("resvit_stage2.yaml", 25, 25)]
)
def test_the_rate_falls_in_a_line_to_an_epoch_at_zero(config: str, full: int, falling: int) -> None:
    train = settings(config)["train"]
    length = train["epoch_steps"]
    schedule = SCHEDULES[train["schedule"]["name"]](**train["schedule"]["options"])
    assert train["steps"] == (full + falling) * length
    for epoch in range(full + falling):
        expected = 1 - max(0, epoch + 2 - full) / (falling + 1)
        for step in (epoch * length, (epoch + 1) * length - 1):
            assert schedule.factor(step, train["steps"], length) == pytest.approx(expected, abs=1e-12)


def test_the_authors_other_settings() -> None:
    first = settings("resvit_stage1.yaml")
    assert first["train"]["optimizer"]["options"] == {"lr": 2e-4, "betas": [0.5, 0.999]}
    assert settings("resvit_stage2.yaml")["train"]["optimizer"]["options"] == {"lr": 1e-3}
    assert first["train"]["batch"] == 1
    assert first["patch"]["size"] == [256, 256, 1]
    assert settings("resvit_stage2.yaml")["train"]["initialise_from"] == {"run": first["output_dir"]}


def test_the_weights_of_losses_are_the_authors_on_their_range() -> None:
    config = settings("resvit_stage1.yaml")
    torch.manual_seed(0)
    prediction, target = torch.rand(2, 1, 8, 8, 2), torch.rand(2, 1, 8, 8, 2)
    real, fake = torch.randn(2, 1, 3, 3, 2), torch.randn(2, 1, 3, 3, 2)
    inputs = LossInputs(
        source=(target,),
        target=(target,),
        prediction=(prediction,),
        mask=None,
        real=DiscriminatorOutput((real,)),
        fake=DiscriminatorOutput((fake,)),
        step=0,
        phase="generator",
    )
    losses = {
        "l1": medtrans.component("loss", "l1").factory(levels=1),
        "lsgan": medtrans.component("loss", "lsgan").factory(),
    }
    assert config["losses"].keys() == losses.keys()
    total = sum(slot["weight"] * losses[name](inputs) for name, slot in config["losses"].items())
    on_their_range = (2 * prediction - 1) - (2 * target - 1)
    torch.testing.assert_close(total, 100 * on_their_range.abs().mean() + (fake - 1).square().mean())
    judged = 0.5 * (fake.square().mean() + (real - 1).square().mean())
    torch.testing.assert_close(losses["lsgan"].discriminator_loss(inputs), judged)
    alike = LossInputs(
        **{**vars(inputs), "prediction": (target,), "fake": DiscriminatorOutput((torch.ones_like(fake),))}
    )
    assert sum(slot["weight"] * losses[name](alike) for name, slot in config["losses"].items()) == 0


@pytest.mark.parametrize("config", sorted(path.name for path in CONFIGS.glob("*.yaml")))
def test_each_config_names_what_there_is(config: str, tmp_path: Path) -> None:
    # The dataset's folder is not there, and nothing else is wrong: options are checked before any case is looked for.
    with pytest.raises(medtrans.DataError, match="nowhere"):
        medtrans.check(
            CONFIGS / config,
            [
                "dataset={name: brats, options: {root: /nowhere}}",
                f"output_dir={tmp_path}",
            ],
        )


@pytest.mark.slow
def test_the_lines_of_the_readme_swap_it_into_the_quickstart(tmp_path: Path) -> None:
    both, alone = (CONFIGS.parent / "README.md").read_text().split("```yaml\n")[1:3]
    lines, alone = both.partition("```")[0], alone.partition("```")[0]
    swapped = yaml.safe_load(lines)
    swapped["losses"] = dict.fromkeys(("l1", "perceptual_25d", "relativistic")) | swapped["losses"]
    smaller = ["train.steps=1", "train.validation_cases=1", "dataset.options={subjects: 6, size: [32, 32, 32]}"]
    folder = medtrans.run(["quickstart", swapped], [*smaller, f"output_dir={tmp_path / 'run'}"])
    saved = yaml.safe_load(folder.config.read_text())
    assert saved["generator"]["name"] == "resvit:res_cnn"
    assert saved["discriminator"]["name"].startswith("resvit:")
    assert saved["losses"].keys() == yaml.safe_load(lines)["losses"].keys()
    report = medtrans.check(["quickstart", yaml.safe_load(alone)], [*smaller, f"output_dir={tmp_path / 'other'}"])
    assert report.faults == ()
    assert report.parameters["generator"] > 900_000


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_the_small_configs_beat_the_better_trivial_baseline(tmp_path: Path) -> None:
    first = medtrans.run(CONFIGS / "small_res_cnn.yaml", [f"output_dir={tmp_path / 'first'}"])
    begin = f"train.initialise_from.run={first.path}"
    second = medtrans.run(CONFIGS / "small_resvit.yaml", [begin, f"output_dir={tmp_path / 'second'}"])
    for folder in (first, second):
        summary = json.loads(folder.summary.read_text())
        for metric in ("psnr", "ssim"):
            trivial = max(scores[metric]["mean"] for scores in summary["baselines"].values())
            assert summary["metrics"][metric]["mean"] > trivial
    affine = np.diag([2.0, 2.5, 3.0, 1.0])
    volume = np.random.default_rng(0).random((51, 75, 33)).astype(np.float32)
    output = medtrans.load(second.path).translate(volume, affine)
    assert output.data.shape == volume.shape
    np.testing.assert_allclose(output.affine, affine)
