"""How much memory there is, and the refusal of what would take more."""

from __future__ import annotations

from pathlib import Path

from medtrans.errors import SetupError

__all__ = ["free_memory", "require_memory"]


_MACHINE = Path("/proc/meminfo")
_CONTAINER = Path("/sys/fs/cgroup")
_GIB = 2**30


def free_memory(machine: Path = _MACHINE, container: Path = _CONTAINER) -> int | None:
    """Bytes that this process may still take, in its container where it has one; None where nobody knows."""
    free = [bytes_free for bytes_free in (_of_machine(machine), _of_container(container)) if bytes_free is not None]
    return min(free, default=None)


def require_memory(needed: int, what: str) -> None:
    """Refuse what takes more bytes than are free, before it is begun: a system that runs out of memory ends processes.

    Raises:
        SetupError: "what" takes `needed` bytes, and fewer are free.
    """
    free = free_memory()
    if free is not None and needed > free:
        raise SetupError(
            f"{what} takes about {needed / _GIB:.3g} GiB of memory, and {free / _GIB:.3g} GiB are free. Use a machine "
            "with more, or a smaller image"
        )


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
