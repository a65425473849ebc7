"""A callback that times a training from within, for `engine.py`: processor time and memory of its process."""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from medtrans import Callback, Component, Scored, hookimpl

WARM = 10
"""Steps that come before the count."""


class Stopwatch(Callback):
    """Writes what the steps after the first ten took, and the last checkpoint, to a file.

    Args:
        path: of the file.
        steps: the last step.
    """

    def __init__(self, *, path: str, steps: int) -> None:
        self.path, self.steps = Path(path), steps
        self.begun = self.ended = self.validated = self.saved = 0.0
        self.peak = 0

    def on_step(self, step: int, values: Mapping[str, Tensor]) -> None:
        """Note the time."""
        if step == WARM:
            self.begun = time.process_time()
        if step == self.steps:
            self.ended = time.process_time()
            self.peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    def on_validation(self, step: int, means: Mapping[str, float], cases: Sequence[Scored]) -> None:
        """Note the time before the checkpoint."""
        self.validated = time.process_time()

    def on_checkpoint(self, step: int, folder: Path) -> None:
        """Note the time behind it."""
        self.saved = time.process_time()

    def on_end(self, step: int, error: BaseException | None) -> None:
        """Leave the numbers."""
        facts = {
            "step_s": (self.ended - self.begun) / (self.steps - WARM),
            "checkpoint_s": self.saved - self.validated,
            "peak_bytes": self.peak,
        }
        self.path.write_text(json.dumps(facts), encoding="utf-8")


@hookimpl
def medtrans_callbacks() -> list[Component]:
    """The stopwatch."""
    return [Component("stopwatch", Stopwatch)]


PLUGIN_API = "1.0"
