"""What the ranks of a run do together: share out work, gather results, wait for each other, agree."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import distributed as dist
from torch import nn

from medtrans.distributed.heartbeat import Heartbeat, open_store
from medtrans.errors import MedtransError, SetupError

_Item = TypeVar("_Item")


class Ranks:
    """A process alone: there is nobody to share with, to wait for, or to agree with.

    Attributes:
        rank: of this process, from 0.
        count: ranks in all.
    """

    rank = 0
    count = 1

    @property
    def leads(self) -> bool:
        """Whether this rank writes what a run leaves behind."""
        return self.rank == 0

    def mine(self, items: Sequence[_Item]) -> list[_Item]:
        """This rank's share of the items."""
        return list(items[self.rank :: self.count])

    def gather(self, results: Sequence[_Item]) -> list[_Item]:
        """Everybody's results for `mine`, on every rank, in the order of all items."""
        return list(results)

    def first(self, work: Callable[[], _Item]) -> _Item:
        """What rank 0 makes of the work, on every rank; the others wait as long as it takes."""
        return work()

    def wait(self) -> None:
        """Until all ranks are here, however long one takes, as long as each lives."""

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on any rank."""
        return flag

    def share_buffers(self, networks: Mapping[str, nn.Module]) -> None:
        """Give all ranks rank 0's buffers, such as running statistics, so that they translate alike."""

    @contextmanager
    def explain_failures(self) -> Iterator[None]:
        """A failed exchange with another rank is told as what befell that rank."""
        yield

    def on_forced_exit(self, action: Callable[[MedtransError], None]) -> None:
        """What to do if this process must be ended by force."""


class ConnectedRanks(Ranks):
    """This process among several.

    Exchanges of the training step end in an error after the process group's timeout. Waiting for a rank that has much
    to do does not: `wait` and what is built on it go through a store, and end when a rank dies or falls silent. So an
    exchange outside the step (`gather`, `first`) begins with `wait`: all ranks are there before its timeout runs.

    Args:
        rank: of this process.
        count: ranks in all.
        store: that rank 0 keeps; of this thread only.
        heart: signs of life.
        group: exchanges on the host; None where the default group does them.
    """

    def __init__(self, rank: int, count: int, store: Any, heart: Heartbeat, group: dist.ProcessGroup | None) -> None:
        self.rank, self.count = rank, count
        self._store, self._heart, self._group = store, heart, group
        self._waits = 0

    def gather(self, results: Sequence[_Item]) -> list[_Item]:
        self.wait()
        parts: list[Any] = [None] * self.count
        dist.all_gather_object(parts, list(results), group=self._group)
        return [parts[index % self.count][index // self.count] for index in range(sum(map(len, parts)))]

    def first(self, work: Callable[[], _Item]) -> _Item:
        made: list[Any] = [work() if self.leads else None]
        self.wait()
        dist.broadcast_object_list(made, src=0, group=self._group)
        found: _Item = made[0]
        return found

    def wait(self) -> None:
        # Each `wait` has a counter of its own, the same on all ranks since all come to the same ones in the same order.
        self._waits += 1
        key, pause = f"wait/{self._waits}", 0.001
        here = self._store.add(key, 1)
        while here < self.count:
            self._heart.raise_fault()
            time.sleep(pause)
            pause = min(2 * pause, 0.1)
            here = self._store.add(key, 0)

    def any(self, flag: bool) -> bool:
        flags = torch.tensor([int(flag)])
        dist.all_reduce(flags, dist.ReduceOp.MAX, group=self._group)
        return bool(flags)

    def share_buffers(self, networks: Mapping[str, nn.Module]) -> None:
        for network in networks.values():
            for buffer in network.buffers():
                dist.broadcast(buffer, src=0)

    @contextmanager
    def explain_failures(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            if "Expected to have finished reduction" in str(error):
                raise SetupError(
                    "a network has weights that no loss reaches, and several ranks cannot train it: let a loss look at "
                    f"all that it gives, or take these parts out ({str(error).splitlines()[0][:200]})"
                ) from error
            # An exchange fails by a bare RuntimeError; so does much else.
            cause = self._heart.diagnose()
            if cause is None:
                raise
            raise cause from error

    def on_forced_exit(self, action: Callable[[MedtransError], None]) -> None:
        self._heart.on_forced_exit = action


@contextmanager
def connected_ranks(rank: int, count: int, timeout_s: float) -> Iterator[ConnectedRanks]:
    """The ranks of an initialised process group; leaving by an error ends them all, with its cause named.

    Args:
        rank: of this process.
        count: ranks in all.
        timeout_s: a rank without a sign of life for so long is lost.

    Raises:
        MedtransError: another rank failed, died or fell silent.
    """
    host = os.environ["MASTER_ADDR"]
    kept = open_store(host, 0, timeout_s, is_host=True) if rank == 0 else None
    place: list[Any] = [kept.port if kept is not None else None]
    dist.broadcast_object_list(place, src=0)
    store = kept or open_store(host, int(place[0]), timeout_s)
    heart = Heartbeat(host, int(place[0]), rank, count, timeout_s)
    # Flags and results lie on the host: on a GPU's group they would cost a wait for the device at each step.
    group = (
        None if dist.get_backend() == "gloo" else dist.new_group(backend="gloo", timeout=timedelta(seconds=timeout_s))
    )
    dist.barrier()  # every rank has written its name and its first beat before anybody looks for them
    heart.start()
    try:
        ranks = ConnectedRanks(rank, count, store, heart, group)
        with ranks.explain_failures():
            yield ranks
            ranks.wait()  # a rank that is through would seem dead to one that still computes
    except BaseException as error:
        heart.report(error)
        raise
    heart.end()
    dist.destroy_process_group()
