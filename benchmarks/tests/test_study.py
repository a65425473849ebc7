"""The study: its grid of configs, its loop, its table, and what the ablations change."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from medtrans.config import Experiment, load_config
from medtrans.layers import shipped_configs
from medtrans.pipeline import check

from .conftest import Medtrans
from .pages import DOCS, ROOT, block_of, blocks, environment

STUDY = ROOT / "configs" / "study"
PAGE = DOCS / "study.md"
TASKS = ["t1_t2", "t2_t1", "t2_flair", "t1_t1ce", "mr_ct", "cbct_ct"]
METHODS = ["mdaunet", "resvit", "ptnet3d", "eagan", "pix2pix", "unet", "monai"]
ABLATIONS = sorted(path.stem for path in (STUDY / "layers" / "ablations").glob("*.yaml"))
ONCE = [*zip(TASKS, METHODS, strict=False), pytest.param("mr_ct", "monai", marks=pytest.mark.slow)]
"""Every task and every method, each at least once; MONAI takes long to import."""

FEW = [
    "dataset.options.subjects=5",
    "split={by: fractions, train: 0.4, validation: 0.2, test: 0.4}",
    "dataset.options.size=[16,16,16]",
    "downstream.segmenter.patch.size=[16,16,16]",
]


def cell(task: str, method: str, *, smoke: bool) -> Experiment:
    return load_config([f"study/{task}/{method}", *([f"study/layers/smoke/{method}"] if smoke else [])])


def test_a_cell_is_its_layers_and_nothing_else() -> None:
    names = [name for name in shipped_configs() if name.startswith("study/")]
    assert sorted(names) == sorted(f"study/{task}/{method}" for task in TASKS for method in METHODS)
    for task in TASKS:
        for method in METHODS:
            assert yaml.safe_load((STUDY / task / f"{method}.yaml").read_text()) == {
                "extends": ["../layers/common.yaml", f"../layers/{task}.yaml", f"../layers/{method}.yaml"],
                "output_dir": f"runs/study/{task}/{method}",
            }


def test_shipped_names_are_paths_and_a_layer_is_no_config_but_has_a_name(medtrans: Medtrans) -> None:
    _, listed, _ = medtrans("show", "config")
    assert "  study/mr_ct/pix2pix\n" in listed
    assert "layers" not in listed
    code, shown, _ = medtrans("show", "config", "study/layers/smoke/unet")
    assert (code, shown) == (0, (STUDY / "layers" / "smoke" / "unet.yaml").read_text())
    assert "did you mean 'study/mr_ct/pix2pix'?" in medtrans("show", "config", "study/mr_ct/pix2pi")[2]


@pytest.mark.parametrize(("task", "method"), ONCE)
def test_every_task_and_every_method_is_accepted_at_both_sizes(task: str, method: str) -> None:
    full, smoke = (cell(task, method, smoke=small).config for small in (False, True))
    for config, voxels in ((full, 2**20), (smoke, 2**16)):
        sides = config.patch.size
        seen = config.train.batch * sides[0] * sides[1] * sides[2]
        assert seen == pytest.approx(voxels, rel=0.02), "a step sees as much by every method"
    assert (full.train.steps, smoke.train.steps) == (20000, 600)
    subjects = smoke.dataset.options["subjects"]
    assert subjects * smoke.split.test >= 12
    assert smoke.downstream.segmenter["patch"]["size"] == [32, 32, 32]


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_the_whole_grid_is_accepted(method: str) -> None:
    for task in TASKS:
        assert cell(task, method, smoke=False).config.output_dir == f"runs/study/{task}/{method}"


def test_the_papers_method_is_the_papers() -> None:
    here, there = (load_config([name]) for name in ("study/t1_t2/mdaunet", "hcp_t1_t2"))
    for place in (("generator",), ("discriminator",), *(("losses", name) for name in there.config.losses)):
        assert here.slots[place].options == there.slots[place].options
    assert here.config.losses == there.config.losses
    assert here.config.train.optimizer.generator == there.config.train.optimizer
    assert here.config.train.schedule == there.config.train.schedule


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_every_method_passes_check_at_full_size(method: str, tmp_path: Path) -> None:
    assert_ready([f"study/t1_t2/{method}"], [*FEW, *SMALLER[method]], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("task", TASKS)
def test_every_cell_passes_check_at_the_small_size(task: str, method: str, tmp_path: Path) -> None:
    assert_ready([f"study/{task}/{method}", f"study/layers/smoke/{method}"], FEW, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ABLATIONS)
def test_every_ablation_passes_check(name: str, tmp_path: Path) -> None:
    layers = ["study/t1_t2/mdaunet", f"study/layers/ablations/{name}"]
    assert_ready(layers, [*FEW, *SMALLER["mdaunet"]], tmp_path)


def assert_ready(layers: list[str], overrides: list[str], tmp_path: Path) -> None:
    """With random weights, since there is no network here."""
    config = load_config(layers).config
    named = [*(f"losses.{name}" for name in config.losses), *(f"metrics.{name}" for name in config.metrics)]
    untrained = [f"{name}.options.weights=random" for name in named if ".perceptual_" in name]
    report = check(layers, [*untrained, *overrides, f"output_dir={tmp_path / 'run'}"])
    assert report.ready, str(report)


SMALLER = {
    "mdaunet": ["patch.size=[16,16,16]", "train.batch=1"],
    "resvit": ["patch.size=[32,32,1]", "generator.options.img_size=[32,32]", "train.batch=2"],
    "ptnet3d": ["patch.size=[16,16,16]", "train.batch=1"],
    "eagan": ["train.batch=2"],
    "pix2pix": ["patch.size=[64,64,64]", "train.batch=1"],
    "unet": ["patch.size=[16,16,16]", "train.batch=1"],
    "monai": ["patch.size=[32,32,32]", "train.batch=1"],
}
"""Patches of the full size take minutes a step on a CPU; a network that can take smaller ones gets them."""


def ablated(name: str) -> dict[str, Any]:
    return load_config(["study/t1_t2/mdaunet", f"study/layers/ablations/{name}"]).saved()


def differing(one: Any, other: Any, place: str = "") -> set[str]:
    if isinstance(one, dict) and isinstance(other, dict):
        keys = dict.fromkeys((*one, *other))
        return set().union(*(differing(one.get(key), other.get(key), f"{place}.{key}") for key in keys))
    return set() if one == other else {place.removeprefix(".")}


@pytest.mark.slow
@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_changes_what_its_layer_says_and_no_budget(name: str) -> None:
    whole = load_config(["study/t1_t2/mdaunet"]).saved()
    found = ablated(name)
    layer = yaml.safe_load((STUDY / "layers" / "ablations" / f"{name}.yaml").read_text())
    assert layer.pop("output_dir") == f"runs/study/ablations/{name}"
    changed = differing(whole, found)
    assert changed - {"output_dir"}, "it changes something"
    assert {place.partition(".")[0] for place in changed} <= {*layer, "output_dir", "versions"}
    assert found["train"]["steps"] == whole["train"]["steps"]


def test_every_ablation_is_told_on_the_page() -> None:
    text = PAGE.read_text(encoding="utf-8")
    told = [name for name in ABLATIONS if f"`{name}`" in text]
    assert told == ABLATIONS


@pytest.fixture
def study(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """`docs/study.py` as a module."""
    monkeypatch.syspath_prepend(str(DOCS))
    yield import_module("study")
    for name in [name for name in sys.modules if name.partition(".")[0] in ("study", "studied")]:
        del sys.modules[name]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_loop_of_the_page_ends_in_one_table(tmp_path: Path) -> None:
    loop = next(block for block in blocks(PAGE) if block.mark.endswith("::test_the_loop_of_the_page_ends_in_one_table"))
    short = dict(word.split("=", 1) for word in shlex.split(block_of(PAGE, "short").text))
    (tmp_path / "docs").symlink_to(DOCS)

    def run() -> str:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", loop.text],
            cwd=tmp_path, env=environment() | short, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    out = run()
    lines = [line.strip("| ").split(" | ") for line in out.splitlines() if line.startswith("| t1_t2 | ")]
    rows = [line for line in lines if not line[1].startswith("*")]
    assert [row[1] for row in rows] == ["mdaunet", "unet"]
    assert [line[1] for line in lines if line not in rows] == ["*source_linear*", "*source_lut*", "*training_mean*"]
    for row in rows:
        assert len(row) == 12
        assert "–" not in row, "every column is filled"
        assert "/" in row[7], "Dice of both segmenters"
    root = tmp_path / "runs" / "study" / "smoke"
    compared = json.loads((root / "t1_t2.tables" / "comparison.json").read_text(encoding="utf-8"))
    assert (compared["reference"], compared["runs"]) == ("mdaunet", ["unet"])
    assert "mdaunet" in (root / "t1_t2.html").read_text(encoding="utf-8")

    # Again: what has ended is passed over, and what was interrupted goes on.
    ended = {path: path.stat().st_mtime_ns for path in root.glob("t1_t2/*/metrics.csv")}
    status = root / "t1_t2" / "unet" / "status.json"
    status.write_text(status.read_text().replace('"done"', '"interrupted"'))
    run()
    again = {path: path.stat().st_mtime_ns for path in ended}
    assert [path.parent.name for path in ended if ended[path] != again[path]] == ["unet"]


def test_the_array_gives_each_job_a_run_of_its_own(tmp_path: Path) -> None:
    script = next(
        block for block in blocks(PAGE) if block.mark.endswith("::test_the_array_gives_each_job_a_run_of_its_own")
    )
    stand_in = tmp_path / "srun"
    stand_in.write_text('#!/bin/sh\necho "$3 $4"\n')
    stand_in.chmod(0o755)
    first, last = map(int, re.findall(r"--array=(\d+)-(\d+)", script.text)[0])
    started = []
    for job in range(first, last + 1):
        own = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_ARRAY_TASK_ID": str(job)}
        done = subprocess.run(
            ["bash", "-c", script.text], cwd=tmp_path, env=own, capture_output=True, text=True, check=True
        )
        started.append(done.stdout.strip())
    assert sorted(started) == sorted(f"run study/{task}/{method}" for task in TASKS for method in METHODS)


def fake_run(folder: Path, psnr: list[float], *, dice: tuple[float, float] | None = None, seconds: float = 0.5) -> None:
    """What a finished run leaves, as far as the table looks."""
    folder.mkdir(parents=True)
    rows = [f"case_{n:04d},c{n},s{n},{value!r},sha{n}" for n, value in enumerate(psnr)]
    (folder / "metrics.csv").write_text("\n".join(["label,case,subject,psnr,target_sha", *rows]) + "\n")
    stated = {"unit": "dB", "higher_is_better": True, "definition": "peak signal to noise"}
    mean = sum(psnr) / len(psnr)
    scores = {"mean": mean, "ci95": [mean - 1, mean + 1], **stated}
    baselines = {"source_lut": {"psnr": {"mean": 13.27}}}
    summary = {"cases": len(psnr), "metrics": {"psnr": scores}, "baselines": baselines}
    (folder / "summary.json").write_text(json.dumps(summary))
    (folder / "status.json").write_text(json.dumps({"state": "done"}))
    (folder / "config.yaml").write_text("train: {steps: 600}\n")
    training = {"seconds_per_step": seconds, "memory_bytes": 3 * 2**30, "device": "a GPU", "memory": "GPU memory"}
    costs = {
        "parameters": {"generator": 6_180_000, "discriminator": 5},
        "training": training,
        "translation": {"seconds_per_volume": 2.0},
    }
    (folder / "costs.json").write_text(json.dumps(costs))
    if dice is not None:
        (folder / "downstream").mkdir()
        arms = {
            arm: {"dice_a": {"mean": value - 0.1}, "dice_b": {"mean": value + 0.1}, "hd95_a": {"mean": 9.0}}
            for arm, value in zip(("tstr", "trtr"), dice, strict=True)
        }
        (folder / "downstream" / "results.json").write_text(json.dumps({"arms": arms}))


def test_the_table_has_scores_tests_dice_and_costs(study: ModuleType, tmp_path: Path) -> None:
    values = [20.0 + n / 10 for n in range(12)]
    fake_run(tmp_path / "t1_t2" / "mdaunet", values, dice=(0.6, 0.8))
    fake_run(tmp_path / "t1_t2" / "worse", [value - 1 - value / 100 for value in values])
    fake_run(tmp_path / "t1_t2" / "alike", [value + (0.1 if n % 2 else -0.1) for n, value in enumerate(values)])
    fake_run(tmp_path / "mr_ct" / "mdaunet", values)
    (tmp_path / "mr_ct" / "running").mkdir()
    (tmp_path / "mr_ct" / "running" / "status.json").write_text('{"state": "running"}')

    text = study.table(study.cells(tmp_path), "mdaunet")
    rows = {tuple(line.strip("| ").split(" | ")[:2]): line for line in text.splitlines() if line.startswith("| ")}

    assert "psnr [dB] ↑" in rows["task", "method"]
    assert rows["t1_t2", "mdaunet"] == (
        "| t1_t2 | mdaunet | 20.6 (19.6 to 21.6) | – | – | – | – | 0.6 / 0.8 | 6.18 | 0.5 | 3 | 2 |"
    )
    assert rows["t1_t2", "*source_lut*"] == "| t1_t2 | *source_lut* | 13.3 | – | – | – | – | – | – | – | – | – |"
    assert "19.3 (18.3 to 20.3) ▼" in rows["t1_t2", "worse"]
    assert "▼" not in rows["t1_t2", "alike"]
    assert "▲" not in rows["t1_t2", "alike"]
    assert ("mr_ct", "mdaunet") in rows
    assert ("mr_ct", "running") not in rows
    assert "Test cases: mr_ct 12, t1_t2 12." in text
    assert "peak signal to noise" in text
    assert "a GPU" in text


def test_the_table_goes_between_the_markers_of_the_page(study: ModuleType) -> None:
    page = PAGE.read_text(encoding="utf-8")
    changed = study.with_table(page, "| a table |\n")
    assert changed.count("| a table |") == 1
    assert "None yet" not in changed
    assert study.with_table(changed, "| another |\n").count("a table") == 0
    with pytest.raises(SystemExit, match="no <!-- results -->"):
        study.with_table("no markers", "")


def test_equal_time_is_counted_by_what_a_step_took(
    study: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_run(tmp_path / "whole", [1.0], seconds=0.5)
    fake_run(tmp_path / "quick", [1.0], seconds=0.2)
    monkeypatch.setattr(sys, "argv", ["study.py", "--equal-time", str(tmp_path / "whole"), str(tmp_path / "quick")])
    assert study.main() == 0
    assert capsys.readouterr().out == f"{tmp_path / 'quick'}: train.steps=1500\n"
    (tmp_path / "quick" / "costs.json").unlink()
    with pytest.raises(SystemExit, match=r"quick: costs\.json has no seconds a step"):
        study.main()


def test_runs_that_cannot_be_compared_are_told(
    study: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_run(tmp_path / "t1_t2" / "mdaunet", [1.0, 2.0, 3.0])
    fake_run(tmp_path / "t1_t2" / "unet", [1.0, 2.0])
    monkeypatch.setattr(sys, "argv", ["study.py", str(tmp_path)])
    with pytest.raises(SystemExit, match="1 cases of mdaunet are missing in unet"):
        study.main()
    monkeypatch.setattr(sys, "argv", ["study.py", str(tmp_path / "t1_t2")])
    with pytest.raises(SystemExit, match="no run has ended below it"):
        study.main()
