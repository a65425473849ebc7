"""Starting the ranks of `train.devices` on this machine, and seeing all of them to their end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from medtrans.config.experiment import Experiment
from medtrans.distributed.cluster import environment_of_rank, place
from medtrans.distributed.signals import EndRequest, end_requests
from medtrans.errors import MedtransError, RunCancelledError, RunInterruptedError, TrainingError, error_of

__all__ = ["launch_ranks", "needs_launch"]


_GRACE_S = 15.0  # for the others to name the cause and end, once one rank has failed


def needs_launch(experiment: Experiment) -> bool:
    """Whether this process is to start ranks: `train.devices` asks for several, and no launcher started this one."""
    devices = experiment.config.train.devices
    return devices != "auto" and devices > 1 and place().count == 1


def launch_ranks(experiment: Experiment, *, resume: bool, overwrite: bool, plugins: Sequence[Path]) -> None:
    """Run the config on `train.devices` ranks of this machine, each a process of its own.

    Signals go on to all ranks. When one fails, the others have seconds to say why and to end, then they are killed.

    Raises:
        MedtransError: of the kind that ended the ranks.
    """
    with tempfile.TemporaryDirectory(prefix="medtrans-") as scratch, end_requests() as request:
        config = Path(scratch) / "config.yaml"
        config.write_text(experiment.saved_text(), encoding="utf-8")
        command = [sys.executable, "-m", "medtrans", "run", str(config)]
        command += ["--resume"] * resume + ["--overwrite"] * overwrite
        command += [part for file in plugins for part in ("--plugin", str(file))]
        ranks = _start(command, int(experiment.config.train.devices))
        try:
            failed = _see_out(ranks, request)
        finally:
            for process in ranks:
                process.kill()
                process.wait()
    if failed is not None:
        kept = Path(experiment.config.output_dir) / "config.yaml"
        raise _error(failed, ranks[failed], how_to_resume=f"medtrans run {kept} --resume")


def _start(command: Sequence[str], count: int) -> list[subprocess.Popen[bytes]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # Process groups of their own: Ctrl-C in the terminal comes here alone and goes on to each of them once.
    return [
        subprocess.Popen(  # noqa: S603 -- this program itself
            command,
            env={**os.environ, **environment_of_rank(rank, count, port)},
            stdout=subprocess.DEVNULL,  # results are shown once, by this process
            process_group=0,
        )
        for rank in range(count)
    ]


def _see_out(ranks: Sequence[subprocess.Popen[bytes]], request: EndRequest) -> int | None:
    """Wait for all ranks; returns the first that failed."""
    told, failed, until = 0, None, float("inf")
    while any(process.poll() is None for process in ranks) and time.monotonic() < until:
        for number in request.all[told:]:
            told += 1
            for process in ranks:
                process.send_signal(number)
        if failed is None:
            failed = _failed(ranks)
            until = float("inf") if failed is None else time.monotonic() + _GRACE_S
        time.sleep(0.05)
    return _failed(ranks) if failed is None else failed


def _failed(ranks: Sequence[subprocess.Popen[bytes]]) -> int | None:
    return next((rank for rank, process in enumerate(ranks) if process.poll()), None)


def _error(rank: int, process: subprocess.Popen[bytes], *, how_to_resume: str) -> MedtransError:
    code = process.returncode
    if code in (RunInterruptedError.exit_code, RunCancelledError.exit_code):
        return error_of(code)(f"all ranks have ended as asked; go on with: {how_to_resume}")
    if code < 0:
        return TrainingError(
            f"rank {rank} (process {process.pid}) was killed by {signal.Signals(-code).name}, so that all ended "
            f"(SIGKILL that nobody sent: memory ran out); go on with: {how_to_resume}"
        )
    return error_of(code)(f"rank {rank} (process {process.pid}) ended with exit code {code}; it says why above")
