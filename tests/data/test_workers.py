"""Processes that prepare patches: their death ends the run with its cause; too little shared memory is told first."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest

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
