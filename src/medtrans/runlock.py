"""Owns the lock of a run's folder: who writes there, and whether that process is still there."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

__all__ = ["Holder", "holder_of", "release", "take"]


@dataclass(frozen=True)
class Holder:
    """A process that may be writing.

    Args:
        host: name of its machine.
        process: its number there.
        since: when it began to write.
        birth: when the process itself was started, as its machine counts; "" where that cannot be known. A process
            number is given out again, a number and a birth are not.
        space: which of the machine's process numberings `process` is of (containers have their own); "" if unknown.
    """

    host: str
    process: int
    since: str
    birth: str = ""
    space: str = ""

    def __str__(self) -> str:
        return f"process {self.process} on {self.host} since {self.since}"

    def may_live(self) -> bool:
        """False only where it is known to be gone; of other machines nothing is known."""
        if self.host != socket.gethostname() or (self.space and self.space != _space()):
            return True
        if not _exists(self.process):
            return False
        return not self.birth or self.birth == _birth(self.process)


def take(lock: Path) -> Holder | None:
    """Write this process into a lock that nobody holds, or whose holder is gone.

    Looking and writing are one: of several processes that try at once, one gets it.

    Returns:
        None where it is this process's now, else who holds it.

    Raises:
        OSError: the lock cannot be written.
    """
    with _guarded(lock) as file:
        holder = _parsed(file.read())
        if holder is not None and holder.may_live():
            return holder
        file.seek(0)
        file.truncate()
        file.write(json.dumps(asdict(_this_process())))
        file.flush()
        os.fsync(file.fileno())
    return None


def release(lock: Path) -> None:
    """Remove a lock that this process holds; one that is another's now stays."""
    with suppress(FileNotFoundError):
        holder, this = _parsed(lock.read_text(encoding="utf-8")), _this_process()
        if holder is not None and (holder.host, holder.process) == (this.host, this.process):
            lock.unlink(missing_ok=True)


def holder_of(lock: Path) -> Holder | None:
    """Who holds a lock; None where nobody does or the holder is gone."""
    try:
        holder = _parsed(lock.read_text(encoding="utf-8"))
    except OSError:
        return None
    return holder if holder is not None and holder.may_live() else None


@contextmanager
def _guarded(lock: Path) -> Iterator[TextIO]:
    """The lock's file, which no other process looks at meanwhile; a link in its place is not followed."""
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        with os.fdopen(descriptor, "r+", encoding="utf-8", errors="replace") as file:
            with suppress(OSError):  # a file system without locks: what the file says still counts
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _is_still(lock, descriptor):
                yield file
                return


def _is_still(lock: Path, descriptor: int) -> bool:
    """Whether the open file has not been removed, by its holder, since it was opened."""
    try:
        found = lock.stat()
    except FileNotFoundError:
        return False
    return (found.st_dev, found.st_ino) == (os.fstat(descriptor).st_dev, os.fstat(descriptor).st_ino)


def _parsed(text: str) -> Holder | None:
    """The holder a lock names; None for one that was never written whole, whose writer died before it wrote more."""
    try:
        said = json.loads(text)
        return Holder(
            str(said["host"]),
            int(said["process"]),
            str(said.get("since", "unknown")),
            str(said.get("birth", "")),
            str(said.get("space", "")),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _this_process() -> Holder:
    process = os.getpid()
    since = datetime.now(UTC).isoformat(timespec="seconds")
    return Holder(socket.gethostname(), process, since, _birth(process), _space())


def _exists(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _birth(process: int) -> str:
    """The boot of the machine and the clock ticks from there to the start of the process, as Linux tells them."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        after_name = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2]
        return f"{boot} {after_name.split()[19]}"
    except (OSError, IndexError):
        return ""


def _space() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""
