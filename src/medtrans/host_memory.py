"""Owns how much of this machine's memory is free."""

from __future__ import annotations

from pathlib import Path

__all__ = ["free_memory"]

_MACHINE = Path("/proc/meminfo")
_CONTAINER = Path("/sys/fs/cgroup")


def free_memory(machine: Path = _MACHINE, container: Path = _CONTAINER) -> int | None:
    """Bytes that this process may still take, in its container where it has one; None where nobody knows.

    Args:
        machine: what Linux says of the machine.
        container: what it says of the control group.
    """
    free = [bytes_free for bytes_free in (_of_machine(machine), _of_container(container)) if bytes_free is not None]
    return min(free, default=None)


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
