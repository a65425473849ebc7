"""What a run leaves on disk, and how it is continued.

Read first: `folder.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from medtrans.utils.lazy import lazy_names

if TYPE_CHECKING:
    from medtrans.runs.checkpoint import Checkpoint as Checkpoint
    from medtrans.runs.folder import RunFolder as RunFolder
    from medtrans.runs.session import run_session as run_session

__all__ = [
    "Checkpoint",
    "RunFolder",
    "run_session",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "Checkpoint": "checkpoint",
            "RunFolder": "folder",
            "run_session": "session",
        },
    )
