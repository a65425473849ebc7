"""Progress on the terminal for loops over cases: a bar with rate and time left, or a line now and then."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

from medtrans.utils.messages import duration_text

_Item = TypeVar("_Item")
_FIRST_LINE_S, _LINE_EVERY_S = 5.0, 30.0
_log = logging.getLogger("medtrans")


def progress_over(items: Sequence[_Item], doing: str) -> Iterator[_Item]:
    """The items, with progress on stderr; without a terminal, a line every now and then."""
    if not sys.stderr.isatty():
        yield from _with_lines(items, doing)
        return
    from rich import progress
    from rich.console import Console

    done = (progress.TextColumn("{task.description}"), progress.BarColumn(), progress.MofNCompleteColumn())
    with progress.Progress(
        *done, progress.TextColumn("{task.fields[left]}"), console=Console(stderr=True), transient=True
    ) as bar:
        task, began = bar.add_task(doing, total=len(items), left=""), time.monotonic()
        for number, item in enumerate(items, 1):
            yield item
            left = duration_text((time.monotonic() - began) / number * (len(items) - number))
            bar.update(task, completed=number, left=f"{left} left")


def _with_lines(items: Sequence[_Item], doing: str) -> Iterator[_Item]:
    began = time.monotonic()
    due = began + _FIRST_LINE_S
    for number, item in enumerate(items):
        now = time.monotonic()
        if now > due and number:
            left = duration_text((now - began) / number * (len(items) - number))
            _log.info("%s: %d of %d, %s left", doing, number, len(items), left)
            due = now + _LINE_EVERY_S
        yield item
