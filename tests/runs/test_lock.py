"""One process writes in a run's folder at a time; who is gone from its machine holds nothing."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from medtrans.errors import ConfigError, SetupError
from medtrans.runs import lock
from medtrans.runs.folder import RunFolder

HOLD = "import sys; from medtrans.runs import lock; from pathlib import Path; lock.take(Path(sys.argv[1])); "
WAIT = HOLD + "print('taken', flush=True); sys.stdin.read()"
RACE = (
    HOLD.replace("lock.take(Path(sys.argv[1]))", "sys.stdin.read(1)")
    + "print(lock.take(Path(sys.argv[1])) is None, flush=True); sys.stdin.read()"
)


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock of `tmp_path` until it is killed."""
    process = started(WAIT, tmp_path / "run.lock")
    assert process.stdout is not None
    assert process.stdout.readline() == "taken\n"
    yield process
    ended(process)


def started(code: str, lock: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def ended(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def lock_of(folder: Path, **said: Any) -> Path:
    """A lock that was left there by a process that is gone."""
    lock = folder / "run.lock"
    left = {"host": socket.gethostname(), "process": 1, "since": "2026-01-01T00:00:00+00:00"}
    lock.write_text(json.dumps(left | said))
    return lock


def test_a_second_process_is_told_who_has_the_folder(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    for flags in ({"resume": False, "overwrite": False}, {"resume": False, "overwrite": True}):
        with pytest.raises(SetupError, match=f"process {holder.pid} on {socket.gethostname()} since 2") as caught:
            RunFolder.claim(tmp_path, **flags)
        assert caught.value.exit_code == 4
    assert json.loads((tmp_path / "run.lock").read_text())["process"] == holder.pid


def test_a_killed_process_holds_nothing(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    folder = RunFolder.claim(tmp_path, resume=False, overwrite=False)
    assert json.loads(folder.lock.read_text())["process"] == os.getpid()
    folder.release()
    assert not folder.lock.exists()


def test_a_process_does_not_take_a_folder_twice(tmp_path: Path) -> None:
    folder = RunFolder.claim(tmp_path / "run", resume=False, overwrite=False)
    with pytest.raises(SetupError, match=f"process {os.getpid()} "):
        RunFolder.claim(tmp_path / "run", resume=False, overwrite=True)
    folder.release()


def test_a_forked_worker_does_not_go_on_holding_the_folder_of_a_killed_run(tmp_path: Path) -> None:
    fork = "import os, time; pid = os.fork(); time.sleep(60) if not pid else print(pid, flush=True); "
    process = started(HOLD + fork + "sys.stdin.read()", tmp_path / "run.lock")
    assert process.stdout is not None
    worker = int(process.stdout.readline())
    try:
        process.kill()
        process.wait()
        os.kill(worker, 0)  # it lives
        assert lock.take(tmp_path / "run.lock") is None
        lock.release(tmp_path / "run.lock")
    finally:
        os.kill(worker, signal.SIGKILL)
        process.communicate()


def test_a_fork_of_the_holder_has_nothing_and_gives_nothing_up(tmp_path: Path) -> None:
    code = (
        "p = Path(sys.argv[1]); import os; child = not os.fork(); child or os.wait(); child and lock.release(p); "
        "print(p.exists(), flush=True); child or sys.stdin.read()"
    )
    process = started(HOLD + code, tmp_path / "run.lock")
    assert process.stdout is not None
    assert [process.stdout.readline() for _ in range(2)] == ["True\n"] * 2
    assert f"process {process.pid} " in str(lock.take(tmp_path / "run.lock"))
    ended(process)


def test_of_threads_that_come_at_once_one_gets_it(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        got = list(threads.map(lock.take, [tmp_path / "run.lock"] * 8))
    assert got.count(None) == 1
    lock.release(tmp_path / "run.lock")


def test_of_processes_that_come_at_once_to_a_stale_lock_one_gets_it(tmp_path: Path) -> None:
    lock = lock_of(tmp_path, process=2**22 + 1)
    racers = [started(RACE, lock) for _ in range(6)]
    try:
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write("x")
            racer.stdin.flush()
        got = [racer.stdout.readline() if racer.stdout else "" for racer in racers]
    finally:
        for racer in racers:
            ended(racer)
    assert sorted(got) == ["False\n"] * 5 + ["True\n"]


def test_of_processes_that_cannot_be_seen_from_here_nothing_is_assumed(tmp_path: Path) -> None:
    path = lock_of(tmp_path, host="node7")
    with pytest.raises(SetupError, match="used by process 1 on node7 since 2026"):
        RunFolder.claim(tmp_path, resume=False, overwrite=False)
    lock.release(path)
    assert path.exists()


def test_a_file_system_without_locks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "lockf", unknown)
    with pytest.raises(SetupError, match="its file system has no file locks"):
        RunFolder.claim(tmp_path / "run", resume=False, overwrite=False)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"host": "here"}', '{"host": "here", "process": "x"}'])
def test_a_lock_that_was_never_written_whole_holds_nobody_off(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.lock").write_text(text)
    RunFolder.claim(tmp_path, resume=False, overwrite=False).release()


def test_a_link_in_place_of_the_lock_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SetupError, match="cannot be written"):
        RunFolder.claim(tmp_path / "run", resume=False, overwrite=False)
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("name", ["checkpoints", "predictions", "pictures", "cache", "log.txt", "tensorboard"])
def test_a_run_never_writes_through_a_link_that_leads_out(tmp_path: Path, name: str) -> None:
    run, outside = tmp_path / "run", tmp_path / "outside"
    run.mkdir()
    outside.mkdir()
    RunFolder.claim(run, resume=False, overwrite=False).release()
    if (run / name).is_dir():
        (run / name).rmdir()
    (run / name).symlink_to(outside)
    with pytest.raises(ConfigError, match=f"{name}: is a link that leads out"):
        RunFolder.claim(run, resume=True, overwrite=False)
    with pytest.raises(ConfigError, match=f"{name}: is a link that leads out"), RunFolder(run).locked():
        pass
    RunFolder.claim(run, resume=False, overwrite=True).release()
    assert list(outside.iterdir()) == []


def test_a_folder_that_was_refused_is_left_unlocked(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    for overwrite in (False, True):
        with pytest.raises(ConfigError, match="no run left"):
            RunFolder.claim(tmp_path, resume=False, overwrite=overwrite)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
