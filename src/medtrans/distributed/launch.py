"""Who started this process, alone or as one of several ranks, and the start of ranks on this machine."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from medtrans.distributed.signals import EndRequest, end_requests
from medtrans.errors import MedtransError, RunCancelledError, RunInterruptedError, SetupError, TrainingError, error_of

if TYPE_CHECKING:
    from medtrans.config.experiment import Experiment

_HANDS_ON = ("bash", "interactive")  # names of Slurm jobs in which somebody types commands


@dataclass(frozen=True)
class Place:
    """Where this process stands among the ranks of a run.

    Args:
        rank: of this process, from 0.
        count: ranks in all.
        local_count: ranks on this machine.
        machines: that take part.
    """

    rank: int = 0
    count: int = 1
    local_count: int = 1
    machines: int = 1


def place() -> Place:
    """This process's place: as torchrun's variables say, else Slurm's, else alone.

    Raises:
        SetupError: the variables do not fit together.
    """
    given = os.environ
    try:
        if "LOCAL_RANK" in given and "WORLD_SIZE" in given:
            return _place(given, "RANK", "WORLD_SIZE", int(given.get("LOCAL_WORLD_SIZE", given["WORLD_SIZE"])))
        if int(given.get("SLURM_NTASKS", "1")) > 1 and given.get("SLURM_JOB_NAME") not in _HANDS_ON:
            # Several numbers here mean different counts on different machines, which `_place` refuses.
            return _place(given, "SLURM_PROCID", "SLURM_NTASKS", int(given["SLURM_NTASKS_PER_NODE"]))
    except (KeyError, ValueError) as error:
        raise SetupError(
            f"the launcher's variables do not say which rank this is ({error}); start with torchrun, or with srun and "
            "--ntasks-per-node"
        ) from error
    return Place()


def environment_of_rank(rank: int, count: int, port: int) -> dict[str, str]:
    """The variables by which a process on this machine knows its place; the same that torchrun sets."""
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "GROUP_RANK": "0",
        "NODE_RANK": "0",
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }


def _place(given: Mapping[str, str], rank: str, count: str, local_count: int) -> Place:
    found = Place(int(given[rank]), int(given[count]), local_count, int(given[count]) // max(local_count, 1))
    if not 0 <= found.rank < found.count or found.machines * found.local_count != found.count:
        raise ValueError(f"rank {found.rank} of {found.count}, {local_count} on this machine")
    return found


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
            failed = _wait_for_end(ranks, request)
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


def _wait_for_end(ranks: Sequence[subprocess.Popen[bytes]], request: EndRequest) -> int | None:
    """Wait for all ranks; returns the first that failed."""
    forwarded, failed, until = 0, None, float("inf")
    while any(process.poll() is None for process in ranks) and time.monotonic() < until:
        for number in request.all[forwarded:]:
            forwarded += 1
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
