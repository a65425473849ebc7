"""Processes that prepare patches: their death ends the run with its cause; too little shared memory is told first."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import medtrans
from medtrans import SetupError
from medtrans.data.patches import check_shared_memory, leave_signals_to_the_run, worker_faults
from tests.helpers.processes import config_of, start

MEBI = 1 << 20


def test_small_shared_memory_is_told_with_numbers_and_what_would_fit(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=64 * MEBI))
    check_shared_memory(batch_bytes=9 * MEBI, workers=2, folder=tmp_path)
    with pytest.raises(SetupError, match=r"4 workers need up to 122,683,392 .* 67,108,864 .* train\.workers=2"):
        check_shared_memory(batch_bytes=9 * MEBI, workers=4, folder=tmp_path)
    check_shared_memory(batch_bytes=9 * MEBI, workers=4, folder=tmp_path / "not on this system")


def test_only_the_death_of_a_worker_is_told_as_one() -> None:
    with pytest.raises(SetupError, match="pid 7"), worker_faults():
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed.")
    with pytest.raises(RuntimeError, match="another fault"), worker_faults():
        raise RuntimeError("another fault")


def obedient(folder: str) -> None:
    """A worker: says which signals it outlived."""
    leave_signals_to_the_run(0)
    for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGTERM):
        os.kill(os.getpid(), number)
    Path(folder, "outlived").touch()
    os.kill(os.getpid(), signal.SIGTERM)
    Path(folder, "immortal").touch()


def test_a_worker_leaves_signals_to_the_run_but_not_the_second_sigterm(tmp_path: Path) -> None:
    assert start(tmp_path, obedient, str(tmp_path)).ended() == [-signal.SIGTERM]
    assert (tmp_path / "outlived").exists()
    assert not (tmp_path / "immortal").exists()


def loses_a_worker(config: dict[str, Any], cache: str, told: str) -> None:
    """A run one of whose workers is killed in its fourth step; writes down when."""
    from medtrans.builtin.methods.paired import PairedMethod
    from tests.helpers.processes import train_only

    real = PairedMethod.training_step

    def step(self: PairedMethod, batch: Any, step: int) -> Any:
        if step == 3:
            children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
            Path(told).write_text(repr(time.time()))
            os.kill(int(children[0]), signal.SIGKILL)
        return real(self, batch, step)

    PairedMethod.training_step = step
    train_only(config, cache, resume=False, mishap=None)


def test_a_killed_worker_ends_the_run_within_ten_seconds_with_the_cause(tmp_path: Path) -> None:
    config, told = config_of(tmp_path / "run", workers=2, steps=500), tmp_path / "when"
    processes = start(tmp_path, loses_a_worker, config, str(tmp_path / "cache"), str(told))
    codes = processes.ended()
    took = time.time() - float(told.read_text())
    assert codes == [4], processes.said
    assert "Killed" in processes.said
    assert "Traceback" not in processes.said
    assert took < 10


OWN = """
import numpy as np
from dataclasses import dataclass
from medtrans import Augmentation, Case, Component, Dataset, Volume, hookimpl, Preprocess


@dataclass(frozen=True)
class Ramp:
    seed: int

    def __call__(self) -> Volume:
        rng = np.random.default_rng(self.seed)
        return Volume(rng.random((16, 16, 16)), np.eye(4))


class Ramps(Dataset):
    def cases(self):
        return [Case(f"c{n}", f"c{n}", {"t1": Ramp(n), "t2": Ramp(100 + n)}) for n in range(5)]


class Halve(Augmentation):
    intensity = True

    def __call__(self, patches, rng):
        return {"source": patches["source"] / 2}


class Fixed(Preprocess):
    fitted = False

    def fit(self, volume, mask):
        return {}

    def apply(self, volume, numbers):
        return volume.astype("float32")

    def invert(self, volume, numbers):
        return volume


@hookimpl
def medtrans_datasets():
    return [Component("ramps", Ramps), Component("local", local)]


@hookimpl
def medtrans_transforms():
    return [Component("halve", Halve), Component("fixed", Fixed)]


def local():
    class Lambdas(Ramps):
        def cases(self):
            return [
                Case(one.case, one.subject, {name: lambda make=make: make() for name, make in one.images.items()})
                for one in super().cases()
            ]
    return Lambdas()
"""


@pytest.fixture
def own(tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """A single-file plugin with a dataset, a scaling and an augmentation, and a run that is made of them."""
    file = tmp_path / "own.py"
    file.write_text(OWN)
    config = config_of(tmp_path / "run", workers=1, steps=2, validate_every=2)
    config |= {"dataset": {"name": "own:ramps"}, "augment": {"half": {"name": "own:halve"}}, "callbacks": {}}
    config["preprocess"] = {"crop": "none", "intensity": {name: {"name": "own:fixed"} for name in ("t1", "t2")}}
    config["discriminator"], config["losses"] = None, {"l1": {}}
    return file, config | {"method": {"name": "paired"}, "faithfulness": {"lesion_cases": 0}}


@pytest.fixture(params=["spawn", pytest.param("forkserver", marks=pytest.mark.slow)])
def started_anew(request: pytest.FixtureRequest) -> Iterator[str]:
    """Workers begin without what this process has imported, as on macOS, on Windows and from Python 3.14 on."""
    before = multiprocessing.get_start_method()
    multiprocessing.set_start_method(request.param, force=True)
    yield request.param
    multiprocessing.set_start_method(before, force=True)


def test_workers_that_are_started_anew_know_the_plugins_of_files(
    own: tuple[Path, dict[str, Any]], started_anew: str
) -> None:
    file, config = own
    folder = medtrans.run(config, plugins=[file])
    assert json.loads(folder.status.read_text())["state"] == "done"


@pytest.mark.parametrize("started_anew", ["spawn"], indirect=True)
def test_what_cannot_be_handed_to_workers_is_named_with_what_to_do(
    own: tuple[Path, dict[str, Any]], started_anew: str
) -> None:
    file, config = own
    with pytest.raises(SetupError, match=f"by {started_anew} .*lambda.* train.workers=0"):
        medtrans.run(config, ["dataset.name=own:local"], plugins=[file])


def test_a_worker_that_ends_by_its_own_error_is_not_told_as_one_without_memory() -> None:
    with pytest.raises(SetupError, match="error of its own") as caught, worker_faults():
        raise RuntimeError("DataLoader worker (pid 7) exited unexpectedly with exit code 1. Details are lost.")
    assert "memory" not in str(caught.value)
