"""Owns the processes that prepare patches: the signals they hear, the memory they need, what their death means."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from medtrans.errors import SetupError

__all__ = ["leave_signals_to_the_run", "refuse_small_shared_memory", "worker_faults"]

_SHARED = Path("/dev/shm")  # noqa: S108 -- where Linux keeps shared memory; nothing is written here
_AHEAD = 2  # batches that torch lets each worker prepare ahead


def leave_signals_to_the_run(_: int) -> None:
    """A worker goes on while the run saves, though Ctrl-C and Slurm signal all processes at once.

    The first SIGTERM is for the run; a second, such as torch sends to a worker that does not end, ends the worker.
    """
    for number in (signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _once)


def _once(number: int, _: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)
    if os.getppid() == 1:
        os.kill(os.getpid(), number)


@contextmanager
def worker_faults() -> Iterator[None]:
    """Tell the death of a worker, which torch may raise anywhere in the main thread, as what it is.

    Raises:
        SetupError: a worker died.
    """
    try:
        yield
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker (pid"):
            raise
        raise SetupError(
            f"a process that prepares patches died ({str(error).splitlines()[0]}); most often memory, or shared memory "
            "(/dev/shm), ran out: set train.workers lower, at 0 it needs neither. Then go on with --resume"
        ) from error


def refuse_small_shared_memory(*, batch_bytes: int, workers: int, folder: Path = _SHARED) -> None:
    """Ask before training for the shared memory in which workers hand batches over; torch dies by a bus error without.

    Both of torch's ways of sharing use this memory, so that none helps where it is too small.

    Args:
        batch_bytes: of one batch.
        workers: that prepare batches.
        folder: where shared memory is.

    Raises:
        SetupError: it is too small, with the numbers.
    """
    if not folder.is_dir():
        return
    # What each worker has ready or in its hands, and what the run has in its own.
    needed, free = batch_bytes * (workers * (_AHEAD + 1) + 1), shutil.disk_usage(folder).free
    if free < needed:
        raise SetupError(
            f"{folder}: {workers} workers need up to {needed:,} bytes of shared memory, {free:,} are free; set "
            f"train.workers={max((free // max(batch_bytes, 1) - 1) // (_AHEAD + 1), 0)}, or give the container more "
            "(docker run --shm-size)"
        )
