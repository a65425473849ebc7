"""Files that appear under their final name only when complete, and the disk space they need."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medtrans.errors import SetupError

PART = ".part-"
"""What the names of files and folders begin with that are not yet complete."""


@contextmanager
def complete_file(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path` to write to; rename it to `path` when the block ends without an error.

    The temporary file has the name of `path`, since writers choose a format by it, in a folder `.part-...` of its own:
    what a killed process leaves is then none of `path.parent.glob("*.nii.gz")`. A link at `path` is replaced, and not
    followed. The rename is durable: file and folder are synchronised to disk before and after.
    """
    folder = Path(tempfile.mkdtemp(prefix=PART, dir=path.parent))
    temporary = folder / path.name
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        synchronise(temporary)
        temporary.replace(path)
        synchronise(path.parent)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def copy_file(source: Path, path: Path) -> None:
    """Copy a file whole or not at all, over what is there; a file onto itself stays as it is."""
    if not (path.exists() and not path.is_symlink() and path.samefile(source)):
        content = source.read_bytes()
        with complete_file(path) as temporary:
            temporary.write_bytes(content)


def remove_parts(folder: Path) -> None:
    """Remove what killed processes left half-written in a folder; nothing is there while somebody else writes."""
    for left in folder.glob(f"{PART}*"):
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with complete_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON whole or not at all; NaN and infinity are refused."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def synchronise(path: Path) -> None:
    """Have what was written to a file, or a folder's list of names, on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def check_disk_space(folder: Path, needed: int, *, what: str = "a checkpoint needs") -> None:
    """Refuse by a SetupError to write where fewer bytes are free than `needed`; `what` needs them, for the message."""
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
