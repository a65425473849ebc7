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
from medtrans.runs import checkpoint

CONFIG = Path(__file__).parents[1] / "configs" / "eagan_small.yaml"

TINY = [
    "dataset.options={subjects: 5, size: [32, 32, 32]}",
    "generator.options={levels: 5, width: 2}",
    "discriminator.options={layers: 1, width: 2}",
    "train.schedule={name: constant}",
    "train.epoch_steps=1",
    "train.validate_every=2",
    "train.checkpoint_every=2",
    "train.validation_cases=1",
    "losses.edge.weight.steps=3",
    "metrics={psnr: {}}",
]
AS_INTENDED = ["method.options={ema: 0.9, pool_size: 2}"]
AS_RELEASED = ["method={name: 'eagan:legacy', options: {pool_size: 4}}", "losses.lsgan.options.legacy_labels=true"]


def weights(folder: RunFolder) -> dict[str, bytes]:
    newest = checkpoint.newest(folder.checkpoints)
    assert newest is not None
    assert newest.step == 4
    return {path.name: path.read_bytes() for path in newest.folder.glob("*.safetensors")}


@pytest.mark.soak
@pytest.mark.parametrize("method", [AS_INTENDED, AS_RELEASED], ids=["as intended", "as released"])
def test_a_run_cut_short_and_resumed_ends_bit_for_bit_as_the_one_left_alone(tmp_path: Path, method: list[str]) -> None:
    def run(name: str, steps: int, *, resume: bool = False) -> RunFolder:
        given = [*TINY, *method, f"output_dir={tmp_path / name}", f"train.steps={steps}"]
        return medtrans.run(CONFIG, given, resume=resume)

    straight = run("straight", 4)
    run("cut", 2)
    resumed = run("cut", 4, resume=True)
    assert weights(resumed) == weights(straight)
    assert resumed.metrics.read_text() == straight.metrics.read_text()


@pytest.mark.slow
def test_the_readmes_lines_for_the_quickstart_make_a_run(tmp_path: Path) -> None:
    readme = (CONFIG.parents[1] / "README.md").read_text(encoding="utf-8")
    command = re.search(r"^medtrans run quickstart .*?(?=\n```)", readme, re.DOTALL | re.MULTILINE)
    assert command is not None
    _, _, config, *overrides = shlex.split(command.group().replace("\\\n", " "))
    short = ["dataset.options={subjects: 5, size: [32, 32, 32]}", "train.steps=1", "metrics={psnr: {}}"]
    folder = medtrans.run(config, [*overrides, *short, f"output_dir={tmp_path / 'run'}"])
    assert "medtrans-eagan" in folder.config.read_text()


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
