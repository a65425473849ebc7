"""How much memory there is, the refusal of what would take more, and the words for when it ran out after all."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from medtrans.errors import SetupError, TrainingError

__all__ = ["TooLargeError", "free_memory", "memory_faults", "out_of_memory", "require_memory"]


_MACHINE = Path("/proc/meminfo")
_CONTAINER = Path("/sys/fs/cgroup")
_GIB = 2**30
_SIGNS = (  # of torch on CPU and GPU, of NumPy, and of the libraries below them
    "out of memory", "not enough memory", "allocate memory", "unable to allocate", "bad_alloc", "alloc_failed",
    "storage size calculation overflowed", "integer multiplication overflow", "array is too big",
    "maximum allowed dimension exceeded", "invalid memory size",
)  # fmt: skip


class TooLargeError(SetupError):
    """The memory is too small for one piece of work that cannot be made smaller."""


def free_memory(machine: Path = _MACHINE, container: Path = _CONTAINER) -> int | None:
    """Bytes that this process may still take, in its container where it has one; None where nobody knows."""
    free = [bytes_free for bytes_free in (_of_machine(machine), _of_container(container)) if bytes_free is not None]
    return min(free, default=None)


def require_memory(
    needed: int, what: str, *, free: int | None = None, remedy: str = "Use a machine with more, or a smaller image"
) -> None:
    """Refuse what takes more bytes than are free, before it is begun: a system that runs out of memory ends processes.

    Args:
        needed: bytes.
        what: takes them.
        free: bytes of the device that they are taken from; None looks at this machine.
        remedy: what to do, a sentence.

    Raises:
        SetupError: "what" takes `needed` bytes, and fewer are free.
    """
    free = free_memory() if free is None else free
    if free is not None and needed > free:
        raise SetupError(
            f"{what} takes about {needed / _GIB:.3g} GiB of memory, and {free / _GIB:.3g} GiB are free. {remedy}"
        )


def out_of_memory(error: BaseException | None) -> bool:
    """Whether an error, or one that it was raised from, says that there was no memory to be had."""
    while error is not None:
        text = str(error).lower()
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
            return True
        if isinstance(error, RuntimeError | ValueError) and any(sign in text for sign in _SIGNS):
            return True
        error = error.__cause__
    return False


@contextmanager
def memory_faults(doing: str, remedy: str) -> Iterator[None]:
    """Turn running out of memory into a fault with advice.

    Args:
        doing: what was done, such as "training".
        remedy: what to lower, a clause in the imperative.

    Raises:
        TrainingError: memory ran out.
    """
    try:
        yield
    except TooLargeError as error:
        raise TrainingError(*(f"{doing}: {fault}" for fault in error.faults)) from error
    except (MemoryError, RuntimeError, ValueError, OSError) as error:
        if not out_of_memory(error):
            raise
        said = next(iter(str(error).splitlines()), "")[:200] or type(error).__name__
        raise TrainingError(f"{doing}: memory ran out ({said}); {remedy}") from error


def _of_machine(path: Path) -> int | None:
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def _of_container(folder: Path) -> int | None:
    try:
        limit = (folder / "memory.max").read_text(encoding="ascii").strip()
        used = int((folder / "memory.current").read_text(encoding="ascii"))
        facts = (folder / "memory.stat").read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):
        return None
    # Cached files count as used, and go where memory is needed.
    cached = sum(int(line.split()[1]) for line in facts if line.startswith(("inactive_file ", "active_file ")))
    return None if limit == "max" else max(0, int(limit) - used + cached)
