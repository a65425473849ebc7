"""The heartbeat between ranks: each shows that it lives, and none outlives a rank that died or fell silent.

A dead peer breaks most exchanges of numbers at once, but not all (NCCL waits), and a stopped one breaks none. So each
rank has two threads beside its main thread, and all ranks share a store of short texts that rank 0 keeps:

    thread      what it does                                                            asks the store
    main        trains; asks `raise_fault` where it waits, `diagnose` where it failed   in `report` and `end`
    beat        every interval: counts up "beat/<rank>", reads "fault" and all beats    yes, and may be stuck there
    heartbeat   every interval: compares the age of all beats with the time limit       never, so that it always runs

The order of events when a rank fails, where F is the first to fail and O any other:

    1. F   `report` writes its error to "fault", unless one is there (compare and set: the first cause counts)
    2. O   the beat thread reads "fault", counts itself in "acknowledged", records the fault and stops beating
    3. F   if it is rank 0 it keeps the store until "acknowledged" counts everybody, or 4 intervals have passed
    4. O   the main thread raises the fault where it waits next and ends by itself, with its own message
    5. O   if the main thread has not ended after the grace period, because it waits in an exchange that nobody answers,
           the heartbeat thread prints the fault, calls `on_forced_exit` and ends the process (`os._exit`)

A rank that dies or is stopped writes nothing. Then the others find in step 2 that its beat has not changed for the time
limit (or at once that the store is gone, if it was rank 0), and go on with 4. At a sound end each counts itself in
"left"; rank 0 waits for the others there, since the store ends with it.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

from torch.distributed import TCPStore  # type: ignore[attr-defined]  # torch exports it without saying so

from medtrans.errors import MedtransError, TrainingError, error_of

_GRACE_S = 8.0  # for the main thread to end by itself, with its own message, before the process is ended
_MISSED_BEATS = 4  # beats that a rank may miss when an exchange with it has just failed


class Heartbeat(threading.Thread):
    """The signs of life of this rank, and the watch over those of the others.

    Args:
        host: where rank 0 keeps the store.
        port: its port there.
        rank: of this process.
        count: ranks in all.
        timeout_s: a rank without a sign of life for so long is lost.

    Attributes:
        on_forced_exit: called with the fault before the process is ended by force.
    """

    def __init__(self, host: str, port: int, rank: int, count: int, timeout_s: float) -> None:
        super().__init__(daemon=True, name="heartbeat")
        # A connection of its own: one that is shared would be taken while the main thread waits.
        self._store = open_store(host, port, timeout_s)
        self._rank, self._count, self._timeout_s = rank, count, timeout_s
        self._interval_s = min(1.0, timeout_s / 10)
        self._beats = [0] * count
        self._changed_at = [time.monotonic()] * count
        self._names = [f"rank {other}" for other in range(count)]
        self._fault: MedtransError | None = None
        self._fault_at = 0.0
        self._launcher = os.getppid()
        self._acknowledged = False
        self._over = threading.Event()
        self.on_forced_exit: Callable[[MedtransError], None] = lambda error: None
        name = f"rank {rank} (process {os.getpid()} on {socket.gethostname()})"
        self._store.set(f"name/{rank}", name)
        self._store.set(f"beat/{rank}", "0")
        if rank == 0:
            self._store.set("fault", "")

    def report(self, error: BaseException) -> None:
        """Tell the others why this rank ends; of several causes the first counts."""
        code = error.exit_code if isinstance(error, MedtransError) else 1
        faults = error.faults if isinstance(error, MedtransError) else (f"{type(error).__name__}: {error}",)
        cause = json.dumps({"rank": self._rank, "code": code, "faults": faults})
        self._over.set()
        # In a thread of its own: if rank 0 was stopped, a call of its store never returns, and this rank is to end.
        publishing = threading.Thread(target=self._publish, args=(cause,), daemon=True)
        publishing.start()
        publishing.join(4 * self._interval_s)

    def end(self) -> None:
        """All ranks are through: stop watching."""
        self._over.set()
        with suppress(RuntimeError):
            self._store.add("left", 1)
            until = time.monotonic() + 10 * self._interval_s
            while self._rank == 0 and time.monotonic() < until and self._store.add("left", 0) < self._count:
                time.sleep(0.02)

    def raise_fault(self) -> None:
        """Raise what is known to have befallen another rank."""
        if self._fault is not None:
            raise self._fault

    def diagnose(self) -> MedtransError | None:
        """Which rank made an exchange fail, after a moment's patience; None where all are alive and well."""
        until = time.monotonic() + (_MISSED_BEATS + 1) * self._interval_s
        while time.monotonic() < until and self._fault is None:
            time.sleep(0.05)
        if self._fault is None:
            missed = [self._interval_s * _MISSED_BEATS < time.monotonic() - at for at in self._changed_at]
            lost = [self._names[other] for other in range(self._count) if missed[other] and other != self._rank]
            if lost:
                self._record(_lost(", ".join(lost), "died or was stopped"))
        return self._fault

    def run(self) -> None:
        """Watch until the end; never asks the store, which may not answer."""
        threading.Thread(target=self._beat, daemon=True, name="beat").start()
        while not self._over.wait(self._interval_s):
            if os.getppid() != self._launcher:
                self._force_exit(TrainingError("the process that started this rank is gone"))
            now = time.monotonic()
            silent = [self._names[other] for other, at in enumerate(self._changed_at) if now - at > self._timeout_s]
            # Where the store does not answer, everybody seems silent: the first of them, rank 0, keeps it and is named.
            if silent:
                self._record(_lost(silent[0], f"gave no sign of life for {self._timeout_s:g} s"))
            if self._fault is not None and now - self._fault_at > _GRACE_S:
                self._force_exit(self._fault)

    def _beat(self) -> None:
        # The first exchange comes at once, for the names: a rank may be lost right away, and is to be named in full.
        while self._fault is None:
            try:
                self._exchange_beats()
            except (RuntimeError, ValueError) as error:
                if not self._over.is_set():
                    self._record(
                        _lost(self._names[0], f"keeps the meeting point, which is lost ({_first_line(error)})")
                    )
            if self._over.wait(self._interval_s):
                return

    def _exchange_beats(self) -> None:
        self._beats[self._rank] += 1
        self._store.set(f"beat/{self._rank}", str(self._beats[self._rank]))
        everybody = range(self._count)
        keys = ["fault", *(f"beat/{other}" for other in everybody), *(f"name/{other}" for other in everybody)]
        cause, *found = (value.decode() for value in self._store.multi_get(keys))
        self._names = found[self._count :]
        now = time.monotonic()
        for other, beat in enumerate(found[: self._count]):
            if int(beat) != self._beats[other] or other == self._rank:
                self._beats[other], self._changed_at[other] = int(beat), now
        if cause:
            self._acknowledge()
            self._record(_error_of_cause(json.loads(cause)))

    def _publish(self, cause: str) -> None:
        with suppress(RuntimeError):
            self._store.compare_set("fault", "", cause)
            self._acknowledge()
            # Rank 0 keeps the store: it stays until the others have read why it goes.
            while self._rank == 0 and self._store.add("acknowledged", 0) < self._count:
                time.sleep(0.05)

    def _acknowledge(self) -> None:
        if not self._acknowledged:
            self._acknowledged = True
            self._store.add("acknowledged", 1)

    def _record(self, fault: MedtransError) -> None:
        if self._fault is None:
            self._fault, self._fault_at = fault, time.monotonic()

    def _force_exit(self, error: MedtransError) -> None:
        """End the process from here: the main thread may wait for good in an exchange that nobody answers."""
        if self._over.is_set():
            return
        for fault in error.faults:
            print(f"rank {self._rank}: {fault}", file=sys.stderr, flush=True)  # noqa: T201 -- the message for the user
        with suppress(Exception):
            self.on_forced_exit(error)
        os._exit(error.exit_code)


def open_store(host: str, port: int, timeout_s: float, *, is_host: bool = False) -> TCPStore:
    """A store of short texts that all ranks see, kept by the process that says `is_host`; port 0 takes a free one."""
    timeout = timedelta(seconds=timeout_s)
    return TCPStore(host, port, world_size=None, is_master=is_host, timeout=timeout, wait_for_workers=False)


def _lost(who: str, how: str) -> TrainingError:
    return TrainingError(
        f"{who} {how}, so that all ranks end; what it said last, and the system's log, tell more (often: memory ran "
        "out). Then go on with --resume"
    )


def _error_of_cause(cause: dict[str, object]) -> MedtransError:
    faults = cause["faults"] if isinstance(cause["faults"], list) else [cause["faults"]]
    return error_of(int(str(cause["code"])))(*(f"rank {cause['rank']}: {fault}" for fault in faults))


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0][:200]
