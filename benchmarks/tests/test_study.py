"""The study: its grid of configs, its loop, its table, and what the ablations change."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.study.__main__ import main
from benchmarks.study.grid import ABLATIONS, METHODS, TASKS, config
from benchmarks.study.runs import cells
from benchmarks.study.table import table
from medtrans.config.loading import load_config
from medtrans.pipeline import check

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "study.md"
ONCE = [*zip(TASKS, METHODS, strict=False), ("mr_ct", "monai")]
"""Every task and every method, each at least once."""


@pytest.mark.parametrize(("task", "method"), ONCE)
def test_all_see_the_same_cases_and_as_many_voxels_a_step(task: str, method: str) -> None:
    for smoke, voxels, steps in ((False, 2**20, 20000), (True, 2**16, 600)):
        found = config(task, method, smoke=smoke)
        first, second, third = found["patch"]["size"]
        assert found["train"]["batch"] * first * second * third == pytest.approx(voxels, rel=0.02)
        assert found["train"]["steps"] == steps
        common = config("t1_t2", "unet", smoke=smoke)
        assert found["split"] == common["split"]
        assert found["dataset"]["options"]["subjects"] == common["dataset"]["options"]["subjects"]
        assert found["output_dir"] == f"runs/study/{task}/{method}"


def test_a_printed_config_is_that_of_the_grid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["config", "t1_t2", "mdaunet", "--smoke", "--ablation", "adversary_off"])
    (tmp_path / "printed.yaml").write_text(capsys.readouterr().out, encoding="utf-8")
    expected = config("t1_t2", "mdaunet", smoke=True, ablation="adversary_off")
    assert load_config([tmp_path / "printed.yaml"]).saved() == load_config([expected]).saved()
    assert expected["discriminator"] is None
    assert "relativistic" not in expected["losses"]
    with pytest.raises(SystemExit, match="perceptual_25d"):
        main(["config", "t1_t2", "unet", "--ablation", "perceptual_off"])


def test_the_papers_method_is_the_papers() -> None:
    here, there = load_config([config("t1_t2", "mdaunet")]), load_config(["hcp_t1_t2"])
    for place in (("generator",), ("discriminator",), *(("losses", name) for name in there.config.losses)):
        assert here.slots[place].options == there.slots[place].options
    assert here.config.losses == there.config.losses
    assert here.config.train.optimizer.generator == there.config.train.optimizer
    assert here.config.train.schedule == there.config.train.schedule


def assert_ready(found: dict[str, Any], tmp_path: Path) -> None:
    """On few small phantoms, with random weights, since there is no network here."""
    experiment = load_config([found]).config
    named = [*(f"losses.{name}" for name in experiment.losses), *(f"metrics.{name}" for name in experiment.metrics)]
    overrides = [
        *(f"{name}.options.weights=random" for name in named if ".perceptual_" in name),
        "dataset.options.subjects=5",
        "dataset.options.size=[16,16,16]",
        "split={by: fractions, train: 0.4, validation: 0.2, test: 0.4}",
        "downstream.segmenter.patch.size=[16,16,16]",
        f"output_dir={tmp_path / 'run'}",
    ]
    report = check([found], overrides)
    assert report.ready, str(report)


@pytest.mark.slow
@pytest.mark.parametrize(("task", "method"), ONCE)
def test_every_task_and_every_method_passes_check(task: str, method: str, tmp_path: Path) -> None:
    assert load_config([config(task, method)]).config.train.steps == 20000
    assert_ready(config(task, method, smoke=True), tmp_path)


@pytest.mark.soak
@pytest.mark.parametrize(
    ("task", "method", "ablation"),
    [*((*cell, None) for cell in product(TASKS, METHODS)), *(("t1_t2", "mdaunet", name) for name in ABLATIONS)],
)
def test_the_whole_grid_passes_check(task: str, method: str, ablation: str | None, tmp_path: Path) -> None:
    assert_ready(config(task, method, smoke=True, ablation=ablation), tmp_path)


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_changes_something_but_no_number_of_steps_and_is_told_on_the_page(name: str) -> None:
    whole, found = config("t1_t2", "mdaunet"), config("t1_t2", "mdaunet", ablation=name)
    assert found.pop("output_dir") == f"runs/study/ablations/{name}"
    assert found != {key: value for key, value in whole.items() if key != "output_dir"}
    assert found["train"]["steps"] == whole["train"]["steps"]
    assert f"`{name}`" in PAGE.read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("name", ABLATIONS)
def test_every_ablation_is_accepted(name: str) -> None:
    assert load_config([config("t1_t2", "mdaunet", ablation=name)]).config.output_dir


def block(begins: str) -> str:
    """The text of the one fenced block of the page that begins so."""
    fenced = re.findall(r"^```\w+\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    (found,) = [text for text in fenced if text.startswith(begins)]
    return found


def bash(text: str, cwd: Path, **more: str) -> str:
    """Run a block as a checkout would, and give what it prints."""
    path = f"{cwd}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    importable = f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    own = {**os.environ, "PATH": path, "PYTHONPATH": importable, "OMP_NUM_THREADS": "1", **more}
    command = ["bash", "-euo", "pipefail", "-c", text]
    done = subprocess.run(command, cwd=cwd, env=own, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_the_loop_of_the_page_ends_in_one_table(tmp_path: Path) -> None:
    loop, short = block("root="), dict(word.split("=", 1) for word in shlex.split(block("TASKS=")))
    out = bash(loop, tmp_path, **short)
    lines = [line.strip("| ").split(" | ") for line in out.splitlines() if line.startswith("| t1_t2 | ")]
    rows = [line for line in lines if not line[1].startswith("*")]
    assert [row[1] for row in rows] == ["mdaunet", "unet"]
    assert all("–" not in row and len(row) == 12 for row in rows), "every column is filled"
    root = tmp_path / "runs" / "study" / "smoke"
    compared = json.loads((root / "t1_t2.tables" / "comparison.json").read_text(encoding="utf-8"))
    assert (compared["reference"], compared["runs"]) == ("run 1 (mdaunet, paired)", ["run 2 (unet, paired)"])
    assert "mdaunet" in (root / "t1_t2.html").read_text(encoding="utf-8")


def test_the_loop_begins_goes_on_and_passes_over(tmp_path: Path) -> None:
    """With a stand-in that says what it was asked for."""
    (tmp_path / "medtrans").write_text('#!/bin/sh\necho "$@" >> asked\n')
    (tmp_path / "medtrans").chmod(0o755)
    loop = block("root=").rpartition("python -m")[0]
    runs = tmp_path / "runs" / "study" / "smoke" / "t1_t2"
    (runs / "unet" / "checkpoints").mkdir(parents=True)
    for name in ("config.yaml", "checkpoints/last.json"):
        (runs / "unet" / name).touch()
    (runs / "monai").mkdir()
    (runs / "monai" / "status.json").write_text('{"state": "done"}')
    bash(loop, tmp_path, TASKS="t1_t2", METHODS="pix2pix unet monai", OVERRIDES="train.steps=4")
    first, second, *ends = (tmp_path / "asked").read_text().splitlines()
    where = "runs/study/smoke/t1_t2"
    assert first == f"run {where}/pix2pix.yaml output_dir={where}/pix2pix train.steps=4"
    assert second == f"run {where}/unet.yaml output_dir={where}/unet train.steps=4 --resume"
    assert [line.split()[0] for line in ends] == ["compare", "report"]
    assert yaml.safe_load((runs / "unet.yaml").read_text()) == config("t1_t2", "unet", smoke=True)


@pytest.mark.parametrize(("job", "task", "method"), [(0, "t1_t2", "mdaunet"), (41, "cbct_ct", "monai")])
def test_the_array_gives_each_job_a_run_of_its_own(job: int, task: str, method: str, tmp_path: Path) -> None:
    script = block("#!/bin/bash")
    assert f"--array=0-{len(TASKS) * len(METHODS) - 1}\n" in script
    assert f"tasks=({' '.join(TASKS)})\nmethods=({' '.join(METHODS)})\n" in script
    (tmp_path / "srun").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "srun").chmod(0o755)
    run = f"runs/study/full/{task}/{method}"
    asked = bash(script, tmp_path, SLURM_ARRAY_TASK_ID=str(job)).strip()
    assert asked.endswith(f"medtrans run {run}.yaml output_dir={run}")
    assert yaml.safe_load((tmp_path / f"{run}.yaml").read_text()) == config(task, method)


def fake_run(folder: Path, psnr: list[float], *, dice: tuple[float, float] | None = None, seconds: float = 0.5) -> None:
    """What a finished run leaves, as far as the table looks."""
    folder.mkdir(parents=True)
    rows = [f"case_{n:04d},c{n},s{n},{value!r},sha{n}" for n, value in enumerate(psnr)]
    (folder / "metrics.csv").write_text("\n".join(["label,case,subject,psnr,target_sha", *rows]) + "\n")
    mean = sum(psnr) / len(psnr)
    stated = {"unit": "dB", "higher_is_better": True, "definition": "peak signal to noise"}
    scores = {"mean": mean, "ci95": [mean - 1, mean + 1], **stated}
    summary = {"metrics": {"psnr": scores}, "baselines": {"source_lut": {"psnr": {"mean": 13.27}}}}
    (folder / "summary.json").write_text(json.dumps({"cases": len(psnr), **summary}))
    (folder / "status.json").write_text(json.dumps({"state": "done"}))
    (folder / "config.yaml").write_text("train: {steps: 600}\n")
    training = {"seconds_per_step": seconds, "memory_bytes": 3 * 2**30, "device": "a GPU", "memory": "GPU memory"}
    costs = {"parameters": {"generator": 6_180_000, "discriminator": 5}, "training": training}
    costs["translation"] = {"seconds_per_volume": 2.0}
    (folder / "costs.json").write_text(json.dumps(costs))
    if dice is not None:
        (folder / "downstream").mkdir()
        arms = {
            arm: {"dice_a": {"mean": value - 0.1}, "dice_b": {"mean": value + 0.1}, "hd95_a": {"mean": 9.0}}
            for arm, value in zip(("tstr", "trtr"), dice, strict=True)
        }
        (folder / "downstream" / "results.json").write_text(json.dumps({"arms": arms}))


def test_the_table_has_scores_tests_dice_and_costs(tmp_path: Path) -> None:
    values = [20.0 + n / 10 for n in range(12)]
    fake_run(tmp_path / "t1_t2" / "mdaunet", values, dice=(0.6, 0.8))
    fake_run(tmp_path / "t1_t2" / "worse", [value - 1 - value / 100 for value in values])
    fake_run(tmp_path / "t1_t2" / "alike", [value + (0.1 if n % 2 else -0.1) for n, value in enumerate(values)])
    fake_run(tmp_path / "mr_ct" / "mdaunet", values)
    (tmp_path / "mr_ct" / "running").mkdir()
    (tmp_path / "mr_ct" / "running" / "status.json").write_text('{"state": "running"}')

    text = table(cells(tmp_path), "mdaunet")
    rows = {tuple(line.strip("| ").split(" | ")[:2]): line for line in text.splitlines() if line.startswith("| ")}

    assert "psnr [dB] ↑" in rows["task", "method"]
    assert rows["t1_t2", "mdaunet"] == (
        "| t1_t2 | mdaunet | 20.6 (19.6 to 21.6) | – | – | – | – | 0.6 / 0.8 | 6.18 | 0.5 | 3 | 2 |"
    )
    assert rows["t1_t2", "*source_lut*"] == "| t1_t2 | *source_lut* | 13.3 | – | – | – | – | – | – | – | – | – |"
    assert "19.3 (18.3 to 20.3) ▼" in rows["t1_t2", "worse"]
    assert not {"▼", "▲"} & set(rows["t1_t2", "alike"])
    assert ("mr_ct", "mdaunet") in rows
    assert ("mr_ct", "running") not in rows
    assert "Test cases: mr_ct 12, t1_t2 12." in text


def test_equal_time_is_counted_by_what_a_step_took(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fake_run(tmp_path / "whole", [1.0], seconds=0.5)
    fake_run(tmp_path / "quick", [1.0], seconds=0.2)
    words = ["equal-time", str(tmp_path / "whole"), str(tmp_path / "quick")]
    main(words)
    assert capsys.readouterr().out == f"{tmp_path / 'quick'}: train.steps=1500\n"
    (tmp_path / "quick" / "costs.json").unlink()
    with pytest.raises(SystemExit, match=r"quick: costs\.json"):
        main(words)


def test_runs_that_cannot_be_compared_are_told(tmp_path: Path) -> None:
    fake_run(tmp_path / "t1_t2" / "mdaunet", [1.0, 2.0, 3.0])
    fake_run(tmp_path / "t1_t2" / "unet", [1.0, 2.0])
    with pytest.raises(SystemExit, match=r"missing in .*unet"):
        main(["table", str(tmp_path)])
    with pytest.raises(SystemExit, match="no run has ended"):
        main(["table", str(tmp_path / "t1_t2")])
