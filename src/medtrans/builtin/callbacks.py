"""Callbacks: the progress of training on the terminal, and curves and pictures in TensorBoard."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated
from unittest.mock import patch

from pydantic import Field
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.text import Text
from torch import Tensor

from medtrans import Callback, RunInfo, Scored

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

__all__ = ["Progress", "TensorBoard"]

_log = logging.getLogger("medtrans")


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.2f} steps/s" if task.speed else "– steps/s")


class Progress(Callback):
    """A bar with rate and time left on stderr; without a terminal, a line now and then.

    Args:
        every_s: seconds between readings of the losses, each of which waits for the device; a line without a terminal
            comes ten times as seldom.
    """

    def __init__(self, *, every_s: Annotated[float, Field(gt=0)] = 1.0) -> None:
        self._every_s = every_s
        self._bar: Bar | None = None

    def on_start(self, run: RunInfo) -> None:
        """Draw the bar."""
        self._first, self._steps, self._began = run.first_step, run.steps, time.monotonic()
        self._read = self._began
        if sys.stderr.isatty():
            columns = (TextColumn("training"), BarColumn(), MofNCompleteColumn(), _Rate(), TextColumn("left"))
            self._bar = Bar(
                *columns, TimeRemainingColumn(), TextColumn("{task.fields[losses]}"), console=Console(stderr=True)
            )
            self._bar.start()
            self._task = self._bar.add_task("training", total=run.steps, completed=run.first_step, losses="")

    def on_step(self, step: int, values: Mapping[str, Tensor]) -> None:
        """Move on."""
        now = time.monotonic()
        due = now - self._read >= (self._every_s if self._bar else 10 * self._every_s)
        if self._bar is not None:
            self._bar.update(self._task, completed=step)
            if due:
                self._bar.update(self._task, losses=_text(values))
        elif due:
            rate = (step - self._first) / (now - self._began)
            left = (self._steps - step) / rate
            _log.info("step %d of %d, %.2f steps/s, %.0f s left, %s", step, self._steps, rate, left, _text(values))
        if due:
            self._read = now

    def on_validation(self, step: int, means: Mapping[str, float], cases: Sequence[Scored]) -> None:
        """Say the means."""
        scores = ", ".join(f"{name} {value:.4g}" for name, value in means.items())
        _log.info("step %d: validation on %d cases: %s", step, len(cases), scores)

    def on_end(self, step: int, error: BaseException | None) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()


def _text(values: Mapping[str, Tensor]) -> str:
    return " ".join(f"{name} {float(value):.3g}" for name, value in values.items() if name != "learning_rate")


class TensorBoard(Callback):
    """Scalars of training and validation, and pictures of source, prediction, target and error.

    Args:
        every: steps between scalars of training, each of which waits for the device.
    """

    def __init__(self, *, every: Annotated[int, Field(ge=1)] = 10) -> None:
        self._every = every
        self._writer: SummaryWriter | None = None

    def on_start(self, run: RunInfo) -> None:
        """Open the event file in the run's folder; after a resume, events of steps that are done again are dropped."""
        # Seconds, which a run without it need not wait.
        from tensorboard.summary.writer import event_file_writer
        from torch.utils.tensorboard import SummaryWriter

        # The file is named after the host, which may be a person's or a hospital's, and takes no other name.
        with patch.object(event_file_writer, "socket", SimpleNamespace(gethostname=lambda: "medtrans")):
            self._writer = SummaryWriter(str(run.folder / "tensorboard"), purge_step=run.first_step + 1)

    def on_step(self, step: int, values: Mapping[str, Tensor]) -> None:
        """Write the scalars of a step."""
        if self._writer is not None and step % self._every == 0:
            for name, value in values.items():
                self._writer.add_scalar(f"train/{name}", float(value), step)

    def on_validation(self, step: int, means: Mapping[str, float], cases: Sequence[Scored]) -> None:
        """Write means and pictures of a validation."""
        if self._writer is None:
            return
        for name, value in means.items():
            self._writer.add_scalar(f"validation/{name}", value, step)
        for case in cases:
            self._writer.add_image(case.label, case.picture, step, dataformats="HWC")
        self._writer.flush()

    def on_end(self, step: int, error: BaseException | None) -> None:
        """Close the event file."""
        if self._writer is not None:
            self._writer.close()
