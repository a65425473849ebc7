"""Owns the room on a disk: asked for before anything is written, and told with numbers where it runs out."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

from medtrans.errors import SetupError

__all__ = ["refuse_full_disk", "unwritable"]


def refuse_full_disk(folder: Path, needed: int, *, what: str = "a checkpoint needs") -> None:
    """Ask for room before anything is written.

    Args:
        folder: where it is needed; it, or its nearest parent that is there.
        needed: bytes.
        what: needs them, for the message.

    Raises:
        SetupError: there are fewer bytes.
    """
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    if free < needed:
        raise SetupError(
            f"{folder}: the disk is nearly full: {what} {needed:,} bytes, {free:,} are free; older checkpoints "
            "are as they were. Make room or choose another output_dir, then --resume"
        )


def unwritable(folder: Path, error: Exception) -> SetupError:
    """Why a checkpoint could not be written into a folder, with the room that is left."""
    try:
        free = shutil.disk_usage(folder).free
    except OSError:
        free = -1
    full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
    cause = "the disk is full" if full else str(error)
    return SetupError(
        f"{folder}: a checkpoint could not be written ({cause}; {free:,} bytes free); older ones are as they were. "
        "Make room or choose another output_dir, then --resume"
    )
