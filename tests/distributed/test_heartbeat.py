"""When a rank fails, dies or falls silent, all ranks end within a set time, and what they say names the cause."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from tests.helpers.processes import Mishap, Processes, config_of, start, train_only

TIMEOUT_S = 15.0


def begin(folder: Path, mishap: Mishap) -> Processes:
    config = config_of(folder / "run", steps=500, rank_timeout_s=TIMEOUT_S)
    return start(folder, train_only, config, str(folder / "cache"), False, mishap, ranks=2)


def happened(processes: Processes, rank: int, state: str, limit_s: float = 120.0) -> float:
    """When the rank's process came to that state (of /proc): "Z" or gone for dead, "T" for stopped."""
    until = time.monotonic() + limit_s
    while time.monotonic() < until:
        process = processes.running[rank]
        if state == "Z" and not process.is_alive():
            return time.monotonic()
        if state == "T" and Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T":
            return time.monotonic()
        time.sleep(0.05)
    raise AssertionError(f"rank {rank} lives on: {processes.said}")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rank", "kind", "code", "cause"),
    [
        (0, "signal", -9, "died or was stopped|meeting point"),  # the first rank holds the meeting point of all
        (1, "exit", 7, "died or was stopped|meeting point"),
        (1, "exception", 1, "LookupError: an accident"),
    ],
)
def test_all_ranks_end_within_thirty_seconds_of_ones_death(tmp_path, rank, kind, code, cause):
    processes = begin(tmp_path, Mishap(kind=kind, step=4, rank=rank))
    died = happened(processes, rank, "Z")
    codes = processes.ended(limit_s=60)
    assert time.monotonic() - died < 30
    assert codes[rank] == code
    assert codes[1 - rank] not in (0, None)
    survivor = processes.logs[1 - rank].read_text()
    assert any(one in survivor for one in cause.split("|")), survivor
    assert f"rank {rank}" in survivor
    if rank == 1:
        status = json.loads((tmp_path / "run" / "status.json").read_text())
        assert status["state"] == "failed"
        assert "rank 1" in status["error"]


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_silent_rank_ends_the_others_within_the_timeout(tmp_path: Path, rank: int) -> None:
    processes = begin(tmp_path, Mishap(step=4, number=signal.SIGSTOP, rank=rank))
    stopped = happened(processes, rank, "T")
    other = processes.running[1 - rank]
    other.join(90)
    took = time.monotonic() - stopped
    os.kill(int(processes.running[rank].pid or 0), signal.SIGKILL)
    processes.ended(limit_s=60)
    assert other.exitcode not in (0, None)
    assert took < TIMEOUT_S + 40
    survivor = processes.logs[1 - rank].read_text()
    assert f"rank {rank} (process {processes.running[rank].pid} on " in survivor
    assert "Traceback" not in survivor
