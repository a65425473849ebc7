"""Progress on the terminal for loops over cases: a bar with rate and time left, or a line now and then."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

_Item = TypeVar("_Item")
_LINE_EVERY_S = 15.0
_log = logging.getLogger("medtrans")


def progress_over(items: Sequence[_Item], doing: str) -> Iterator[_Item]:
    """The items, with progress on stderr; without a terminal, a line every now and then."""
    if not sys.stderr.isatty():
        yield from _with_lines(items, doing)
        return
    from rich import progress
    from rich.console import Console

    done = (progress.TextColumn("{task.description}"), progress.BarColumn(), progress.MofNCompleteColumn())
    times = (progress.TimeElapsedColumn(), progress.TextColumn("left"), progress.TimeRemainingColumn())
    with progress.Progress(*done, *times, console=Console(stderr=True), transient=True) as bar:
        yield from bar.track(items, description=doing)


def _with_lines(items: Sequence[_Item], doing: str) -> Iterator[_Item]:
    shown = time.monotonic()
    for number, item in enumerate(items):
        if time.monotonic() - shown > _LINE_EVERY_S:
            _log.info("%s: %d of %d", doing, number, len(items))
            shown = time.monotonic()
        yield item
