"""A process's own memory: anonymous pages, without files that are mapped or cached."""

from __future__ import annotations

import threading
from pathlib import Path
from types import TracebackType

_STATUS = Path("/proc/self/status")


def anonymous_bytes() -> int:
    """Anonymous memory of this process that is in RAM (RssAnon)."""
    lines = _STATUS.read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:"))


class AnonymousPeak:
    """The most anonymous memory while the block runs, looked at every few milliseconds.

    Attributes:
        before: bytes when it began.
        peak: the most bytes.
    """

    def __enter__(self) -> AnonymousPeak:
        self.before = self.peak = anonymous_bytes()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.003):
            self.peak = max(self.peak, anonymous_bytes())
