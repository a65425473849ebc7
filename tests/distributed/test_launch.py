"""Ranks by `train.devices`, torchrun and Slurm's variables: one run, one folder, an exit code that tells its end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

import medtrans
from medtrans import TrainingError
from medtrans.config.loading import load_config
from medtrans.distributed.launch import needs_launch
from medtrans.runs import checkpoint
from tests.helpers.processes import config_of, fingerprint, free_port, trained

MEDTRANS = [sys.executable, "-m", "medtrans", "run"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]

ACCIDENT = """
import os, signal
from medtrans import Callback, Component, hookimpl

class Accident(Callback):
    def on_step(self, step, values):
        if step == 3:
            os.kill(os.getpid(), signal.SIGKILL)

@hookimpl
def medtrans_callbacks():
    return [Component("accident", Accident)]
"""


def written(folder: Path, **train: object) -> Path:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config_of(folder / "run", **train)))
    return path


def state(folder: Path) -> str:
    return str(json.loads((folder / "run" / "status.json").read_text())["state"])


def run_to_the_end(folder: Path, *commands: Sequence[str], environments: Sequence[dict[str, str]] = ({}, {})) -> None:
    """Start `COMMAND run CONFIG` for each at once: together they leave one whole run behind."""
    config = str(written(folder))
    begun = [
        subprocess.Popen([*command, config], env={**os.environ, **more}, stderr=subprocess.PIPE, text=True)
        for command, more in zip(commands, environments, strict=False)
    ]
    said = [process.communicate(timeout=250)[1] for process in begun]
    assert [process.returncode for process in begun] == [0] * len(begun), said
    assert state(folder) == "done"


def test_several_devices_are_started_unless_a_launcher_has_done_it(tmp_path, monkeypatch):
    one, two = load_config([config_of(tmp_path / "run")]), load_config([config_of(tmp_path / "run", devices=2)])
    assert not needs_launch(one)
    assert needs_launch(two)
    for name, value in {"LOCAL_RANK": "0", "RANK": "0", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    assert not needs_launch(two)


@pytest.mark.slow
def test_train_devices_starts_ranks_that_leave_one_whole_run_behind(tmp_path: Path) -> None:
    folder = medtrans.run(config_of(tmp_path / "run", devices=2))
    assert state(tmp_path) == "done"
    assert folder.report.exists()
    assert not folder.lock.exists()
    reference = config_of(tmp_path / "forked")
    codes, said = trained(reference, tmp_path / "cache", ranks=2)
    assert codes == [0, 0], said
    assert fingerprint(folder.path) == fingerprint(tmp_path / "forked")


@pytest.mark.slow
def test_a_killed_rank_is_named_and_the_run_may_go_on(tmp_path: Path) -> None:
    plugin = tmp_path / "bad.py"
    plugin.write_text(ACCIDENT)
    config = config_of(tmp_path / "run", devices=2)
    with pytest.raises(TrainingError, match=r"rank 0 \(process \d+\) was killed by SIGKILL.*--resume"):
        medtrans.run(config, ["callbacks={bad: {name: 'bad:accident'}}"], plugins=[plugin])
    assert checkpoint.newest(tmp_path / "run" / "checkpoints").step == 2
    medtrans.run(config, resume=True)
    assert state(tmp_path) == "done"


@pytest.mark.parametrize(
    ("number", "code"),
    [
        pytest.param(signal.SIGTERM, 75, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, 130, marks=pytest.mark.soak),
    ],
)
def test_a_signal_to_the_one_that_started_them_ends_all_ranks_with_a_checkpoint(tmp_path, number, code):
    config = written(tmp_path, devices=2, steps=5000)
    with subprocess.Popen([*MEDTRANS, str(config)], stderr=subprocess.PIPE, text=True) as process:
        until = time.monotonic() + 200
        while not (tmp_path / "run" / "checkpoints" / "step_00000004").exists() and time.monotonic() < until:
            time.sleep(0.1)
        process.send_signal(number)
        _, said = process.communicate(timeout=120)
    assert process.returncode == code, said
    assert "Traceback" not in said
    assert "--resume" in said
    assert state(tmp_path) == "interrupted"
    assert checkpoint.newest(tmp_path / "run" / "checkpoints") is not None


@pytest.mark.slow
def test_torchrun_starts_a_run_whose_cases_the_ranks_share(tmp_path: Path) -> None:
    run_to_the_end(tmp_path, [*TORCHRUN, "--standalone", "--nproc_per_node=2", "-m", "medtrans", "run"])
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["cases"] == len(list((tmp_path / "run" / "predictions").glob("*.nii.gz")))


@pytest.mark.soak
def test_two_torchruns_on_two_machines_start_one_run(tmp_path: Path) -> None:
    machine = [*TORCHRUN, "--nnodes=2", "--nproc_per_node=1", "--master_addr=127.0.0.1", f"--master_port={free_port()}"]
    run_to_the_end(tmp_path, *([*machine, f"--node_rank={rank}", "-m", "medtrans", "run"] for rank in range(2)))
    assert checkpoint.newest(tmp_path / "run" / "checkpoints").facts["global_batch"] == 4


@pytest.mark.slow
def test_slurms_variables_start_a_run(tmp_path: Path) -> None:
    slurm = {
        "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2", "SLURM_NNODES": "1", "SLURM_NODEID": "0",
        "SLURM_JOB_ID": "1234", "SLURM_JOB_NAME": "medtrans", "SLURM_NODELIST": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
    }  # fmt: skip
    tasks = [{**slurm, "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)} for rank in range(2)]
    run_to_the_end(tmp_path, MEDTRANS, MEDTRANS, environments=tasks)
