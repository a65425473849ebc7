"""The two processes in which components are tried as two ranks: started once, asked again and again."""

from __future__ import annotations

import atexit
import base64
import json
import os
import pickle
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from queue import Empty, Queue
from typing import Any, TypeVar

from medtrans.testing.rules import Broken, NotTried

__all__ = ["on_two_ranks"]

Subject = TypeVar("Subject")
Answer = TypeVar("Answer")

_LIMIT_S = 300.0
"""Seconds that both ranks have for one question."""

_GRACE_S = 2.0
"""Seconds that a rank has once the other has failed."""


def on_two_ranks(subject: Subject, question: Callable[[Subject, int], Answer]) -> tuple[Answer, Answer]:
    """Ask `question(subject, rank)` in two processes that form a process group over gloo.

    Both travel by pickle, so that function and class must stand at the top of a module.

    Raises:
        NotTried: the subject cannot travel.
        Broken: a rank failed, or did not answer in time.
    """
    modules = _modules_of(subject)
    try:
        cargo = pickle.dumps((question, subject))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise NotTried(
            f"another process cannot import it ({error}); put the class at the top level of a module"
        ) from error
    answers = _PAIR.ask({"path": sys.path, "modules": modules, "cargo": base64.b64encode(cargo).decode()})
    first, second = (_opened(answer) for answer in answers)
    return first, second


def _opened(answer: dict[str, str]) -> Any:
    if "stranger" in answer:
        raise NotTried(f"another process cannot import it ({answer['stranger']})")
    if "problem" in answer:
        raise Broken(answer["problem"])
    return pickle.loads(base64.b64decode(answer["value"]))  # noqa: S301 -- from our own child


def _modules_of(subject: object) -> dict[str, str]:
    """The files of modules that a child may not find by name: tests, single-file plugins."""
    found = {}
    for one in vars(subject).values():
        factory = getattr(one, "factory", one)
        name = getattr(factory, "__module__", None)
        file = getattr(sys.modules.get(name or ""), "__file__", None)
        if callable(factory) and name and name != "__main__" and file:
            found[name] = file
    return found


@dataclass
class _Pair:
    """The two processes; started on first use, and anew after one of them failed to answer."""

    processes: list[subprocess.Popen[str]] = field(default_factory=list)
    folder: tempfile.TemporaryDirectory[str] | None = None

    def ask(self, job: dict[str, Any]) -> list[dict[str, str]]:
        if any(process.poll() is not None for process in self.processes):
            self.close()
        if not self.processes:
            self._start()
        given = self._answers(json.dumps(job))
        problems = [answer for answer in given if "problem" in answer]
        if problems or len(given) < 2:
            self.close()  # a rank that failed may have left the other waiting for it
        if problems:
            return [problems[0], problems[0]]
        if len(given) < 2:
            raise Broken(f"two ranks did not end within {_LIMIT_S:.0f} s, or one ended the process")
        return given

    def _answers(self, line: str) -> list[dict[str, str]]:
        """What the ranks answer, in their order; fewer where one does not."""
        arriving: Queue[tuple[int, dict[str, str] | None]] = Queue()
        for rank, process in enumerate(self.processes):
            threading.Thread(target=_ask_one, args=(rank, process, line, arriving), daemon=True).start()
        given: dict[int, dict[str, str]] = {}
        patience = _LIMIT_S
        while len(given) < 2:
            try:
                rank, answer = arriving.get(timeout=patience)
            except Empty:
                break
            if answer is None:
                break
            given[rank] = answer
            if "problem" in answer:
                patience = _GRACE_S
        return [given[rank] for rank in sorted(given)]

    def _start(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.processes = [_started(rank, Path(self.folder.name) / "store") for rank in range(2)]
        for process in self.processes:
            if process.stdout is not None:
                process.stdout.readline()  # both have imported torch, so that neither waits for the other from here on

    def close(self) -> None:
        """End both processes."""
        for process in self.processes:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    stream.close()
        self.processes = []
        if self.folder is not None:
            self.folder.cleanup()
            self.folder = None


def _ask_one(
    rank: int, process: subprocess.Popen[str], line: str, answers: Queue[tuple[int, dict[str, str] | None]]
) -> None:
    answered = ""
    if process.stdin is not None and process.stdout is not None:
        with suppress(BrokenPipeError, ValueError):
            process.stdin.write(f"{line}\n")
            process.stdin.flush()
            answered = process.stdout.readline()
    answers.put((rank, json.loads(answered) if answered else None))


_PAIR = _Pair()
atexit.register(_PAIR.close)


def _started(rank: int, store: Path) -> subprocess.Popen[str]:
    # Gloo would look the machine's own name up, which not every network answers.
    loopback = {"GLOO_SOCKET_IFNAME": "lo"} if sys.platform == "linux" else {}
    environment = {**os.environ, **loopback, "PYTHONHASHSEED": str(rank + 1), "OMP_NUM_THREADS": "1"}
    home = str(Path(str(import_module("medtrans").__file__)).parents[1])
    environment["PYTHONPATH"] = os.pathsep.join([home, environment.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    return subprocess.Popen(  # noqa: S603 -- our own module
        [sys.executable, "-m", "medtrans.testing.rank", str(rank), str(store)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
    )
