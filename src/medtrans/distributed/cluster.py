"""What the environment says of who started this process: alone, or as one of several ranks."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from medtrans.errors import SetupError

__all__ = ["Place", "environment_of_rank", "place"]


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
