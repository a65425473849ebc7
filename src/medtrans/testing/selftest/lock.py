"""The check that two runs do not write in one folder."""

from __future__ import annotations

from pathlib import Path

from medtrans.errors import ConfigError, SetupError
from medtrans.runs.folder import RunFolder

__all__ = ["check"]


def check(folder: Path) -> tuple[bool, str]:
    """Take a folder, and ask for it again; lead a folder out of itself, and ask for that."""
    refused = 0
    held = RunFolder.claim(folder / "held", resume=False, overwrite=False)
    try:
        RunFolder.claim(folder / "held", resume=False, overwrite=True)
    except SetupError as error:
        refused += "is used by process" in str(error)
    held.release()
    (held.path / "config.yaml").touch()
    (held.path / "pictures").symlink_to(folder)
    try:
        RunFolder.claim(folder / "held", resume=True, overwrite=False)
    except ConfigError as error:
        refused += "leads out" in str(error)
    return refused == 2 and not held.lock.exists(), f"{refused} of 2 folders refused"
