"""Whole runs: stopped and resumed bit for bit, on volumes of any size, and better than guessing."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

import medtrans
from medtrans import RunFolder, Volume
from medtrans.config.loading import load_config
from medtrans.runs import checkpoint

CONFIG = Path(__file__).parents[1] / "configs" / "monai_small.yaml"

TINY = [
    "dataset.options={subjects: 5, size: [24, 24, 24]}",
    "patch.size=[16, 16, 16]",
    "train.schedule={name: constant}",
    "train.validate_every=2",
    "train.checkpoint_every=2",
    "train.validation_cases=1",
    "metrics.ssim=null",
    "metrics.nmse=null",
    "metrics.mae=null",
]


def weights(folder: RunFolder) -> dict[str, bytes]:
    newest = checkpoint.newest(folder.checkpoints)
    assert newest is not None
    assert newest.step == 4
    return {path.name: path.read_bytes() for path in newest.folder.glob("*.safetensors")}


@pytest.mark.soak
def test_a_run_cut_short_and_resumed_ends_bit_for_bit_as_the_one_left_alone(tmp_path: Path) -> None:
    def run(name: str, steps: int, *, resume: bool = False) -> RunFolder:
        given = [*TINY, f"output_dir={tmp_path / name}", f"train.steps={steps}"]
        return medtrans.run(CONFIG, given, resume=resume)

    straight = run("straight", 4)
    run("cut", 2)
    resumed = run("cut", 4, resume=True)
    assert weights(resumed) == weights(straight)
    assert resumed.metrics.read_text() == straight.metrics.read_text()


DYNUNET = (
    "{name: 'monai:dynunet', options: {kernel_size: [3, [3, 3, 1], 3], strides: [1, [2, 2, 1], 2], "
    "upsample_kernel_size: [[2, 2, 1], 2], filters: [4, 8, 8]}}"
)


@pytest.mark.soak
def test_another_of_monais_networks_is_one_line(tmp_path: Path) -> None:
    given = [*TINY, f"output_dir={tmp_path / 'run'}", "train.steps=1", f"generator={DYNUNET}"]
    summary = json.loads(medtrans.run(CONFIG, given).summary.read_text())
    assert summary["cases"] > 0
    assert set(summary["metrics"]) == {"psnr", "ssim_gaussian"}


def test_the_readmes_lines_for_the_quickstart_make_a_run(tmp_path: Path) -> None:
    readme = (CONFIG.parents[1] / "README.md").read_text(encoding="utf-8")
    command = re.search(r"^medtrans run quickstart .*?(?=\n```)", readme, re.DOTALL | re.MULTILINE)
    assert command is not None
    _, _, config, *overrides = shlex.split(command.group().replace("\\\n", " "))
    short = ["dataset.options={subjects: 5, size: [32, 32, 32]}", "train.steps=1", "metrics={psnr: {}}"]
    folder = medtrans.run(config, [*overrides, *short, f"output_dir={tmp_path / 'run'}"])
    assert "medtrans-monai" in folder.config.read_text()


def test_the_published_size_of_swin_unetr_is_that_of_its_config() -> None:
    experiment = load_config([CONFIG.with_name("monai_swin_unetr.yaml")])
    network = experiment.build("generator", in_channels=1, out_channels=1, patch_size=experiment.config.patch.size)
    assert sum(parameter.numel() for parameter in network.parameters()) == 62_186_659
    assert all(side % network.multiple == 0 for side in experiment.config.patch.size)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_the_small_config_beats_the_better_baseline_and_predicts_an_odd_volume(tmp_path: Path) -> None:
    folder = medtrans.run(CONFIG, [f"output_dir={tmp_path / 'run'}"])
    summary = json.loads(folder.summary.read_text())
    for metric in ("psnr", "ssim"):
        guesses = [scores[metric]["mean"] for scores in summary["baselines"].values()]
        assert len(guesses) == 3
        assert summary["metrics"][metric]["mean"] > max(guesses), metric
    affine = np.array([[0, 0, 3.0, 5], [-3.0, 0, 0, 7], [0, 3.2, 0, -9], [0, 0, 0, 1]])
    array = np.random.default_rng(0).random((37, 29, 41)).astype(np.float32) * 500
    predicted = medtrans.load(folder.path).translate(Volume(array, affine))
    assert isinstance(predicted, Volume)
    assert predicted.shape == array.shape
    np.testing.assert_allclose(predicted.affine, affine, atol=1e-6)
    assert np.isfinite(predicted.data).all()
