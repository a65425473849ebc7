"""The lock of a run's folder: one process writes there at a time, and one that was killed holds nothing.

The lock is the system's own (`lockf`), held for the whole run on the file `run.lock`; what stands in the file only
names the holder to whoever is turned away. `lockf` and not `flock`: a `flock` belongs to the open file, which forked
data workers inherit, so that they would hold it after their parent was killed; a `lockf` belongs to the process. Its
price is that closing any descriptor of the file gives the lock up. So there is one descriptor, kept open until the
end, and a process never opens the file again while it holds the lock.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import threading
from datetime import UTC, datetime
from pathlib import Path

__all__ = ["release", "take"]


# Of each lock the process that took it, since a fork inherits this table but not the lock, and the one descriptor.
_held: dict[Path, tuple[int, int]] = {}
_guard = threading.Lock()


def take(lock: Path) -> str | None:
    """Lock a file for this process, until `release` or its end.

    Returns:
        None where it is this process's now, else who has it, in words. Another machine's is never taken for gone, since
        file systems differ in whether they tell each machine of the others' locks.

    Raises:
        OSError: the file cannot be written (a link is not followed), or its file system has no locks.
    """
    with _guard:
        if _held.get(_name(lock), (0, 0))[0] == os.getpid():  # the system would grant a process its own lock again
            return f"process {os.getpid()} on {socket.gethostname()} (this one)"
        while True:
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
            try:
                free = _locked(descriptor)
                host, holder = _recorded(os.pread(descriptor, 4096, 0))
                if not free or host not in (None, socket.gethostname()):
                    os.close(descriptor)
                    return holder
                # The holder may have removed the file between open and lock: then this is a lock on nothing, and the
                # name may be somebody else's new file. Try again with that.
                if _is_still(lock, descriptor):
                    break
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        own = {"host": socket.gethostname(), "process": os.getpid(), "since": now}
        _held[_name(lock)] = os.getpid(), descriptor
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(own).encode(), 0)
    return None


def release(lock: Path) -> None:
    """Remove a lock that this process holds; any other stays."""
    with _guard:
        process, descriptor = _held.get(_name(lock), (0, 0))
        if process == os.getpid():
            del _held[_name(lock)]
            if _is_still(lock, descriptor):
                lock.unlink()  # before it is given up: whoever opened it meanwhile finds that it is no longer the lock
            os.close(descriptor)


def _name(lock: Path) -> Path:
    return lock.parent.resolve() / lock.name


def _locked(descriptor: int) -> bool:
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError as error:
        raise OSError(error.errno, f"its file system has no file locks: {error.strerror}") from error
    return True


def _is_still(lock: Path, descriptor: int) -> bool:
    """Whether the open file has not been removed since it was opened."""
    try:
        return os.path.samestat(lock.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _recorded(content: bytes) -> tuple[str | None, str]:
    """The host and the process that a lock names; no host where it was never written whole."""
    try:
        own = json.loads(content)
        return str(own["host"]), f"process {int(own['process'])} on {own['host']} since {own.get('since')}"
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None, "another process"
