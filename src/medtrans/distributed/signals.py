"""The signals that ask a run to end: they set a flag, which the run looks at where it may stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from medtrans.errors import RunCancelledError, RunInterruptedError


class EndRequest:
    """Whether the run was asked to end, and by what.

    Attributes:
        all: the signals that came, in order.
    """

    def __init__(self) -> None:
        self.all: list[signal.Signals] = []

    @property
    def made(self) -> bool:
        """Whether it was asked to."""
        return bool(self.all)

    def error(self, *, where: str, how_to_resume: str) -> RunInterruptedError:
        """What ends the run then.

        Args:
            where: how far it has come and what is safe.
            how_to_resume: the command.
        """
        kind = RunCancelledError if self.all[:1] == [signal.SIGINT] else RunInterruptedError
        asked = f"ended by {self.all[0].name}" if self.all else "ended, as another rank was asked to"
        return kind(f"{where}: {asked}; go on with: {how_to_resume}")

    def handle(self, number: int, _: FrameType | None) -> None:
        """The handler: it takes a note and nothing else."""
        self.all.append(signal.Signals(number))
        if number == signal.SIGINT:
            # A second Ctrl-C is the system's to answer: it ends the process wherever it is, also inside a kernel.
            signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def end_requests() -> Iterator[EndRequest]:
    """Listen to SIGTERM, SIGUSR1 and Ctrl-C; afterwards they do what they did before.

    Signals reach the main thread only: a run in another thread listens to none.
    """
    request = EndRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    wanted = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
    before = {number: signal.signal(number, request.handle) for number in wanted}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
