"""Callbacks: the progress of training on the terminal, and curves and pictures in TensorBoard."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated
from unittest.mock import patch

from pydantic import Field
from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, Task, TextColumn
from rich.progress import Progress as Bar
from rich.text import Text
from torch import Tensor

from medtrans import Callback, RunInfo, Scored, duration_text

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

__all__ = ["Progress", "TensorBoard"]

_log = logging.getLogger("medtrans")


_LOSSES_SHOWN = 3
_WIDE = 100  # columns of a terminal from which on the bar is long


class _Scalars(ProgressColumn):
    """As many scalars as fit beside what counts: bar, steps, rate and time left are never cut for them."""

    def __init__(self, columns: Callable[[], int]) -> None:
        super().__init__()
        self._columns = columns

    def render(self, task: Task) -> Text:
        before = (task.fields["bar"], task.fields["done"], task.fields["pace"])
        room = self._columns() - sum(len(one) + 1 for one in before) - 1
        shown = ""
        for one in task.fields["losses"][:_LOSSES_SHOWN]:
            longer = f"{shown}  {one}" if shown else one
            if len(longer) > room:
                break
            shown = longer
        return Text(shown, no_wrap=True)


class Progress(Callback):
    """A bar with steps, rate and time left on stderr; without a terminal, a line now and then.

    Args:
        every_s: seconds between readings of the losses, each of which waits for the device; a line without a terminal
            comes thirty times as seldom, the first one soon.
    """

    watches_only = True

    def __init__(self, *, every_s: Annotated[float, Field(gt=0)] = 1.0) -> None:
        self._every_s = every_s
        self._bar: Bar | None = None
        self._paced: tuple[int, float] | None = None

    def on_start(self, run: RunInfo) -> None:
        """Draw the bar."""
        self._steps, self._paced = run.steps, None
        self._due = time.monotonic() + (self._every_s if sys.stderr.isatty() else 5 * self._every_s)
        if sys.stderr.isatty():
            console = Console(stderr=True)
            length = 24 if console.width >= _WIDE else 10
            columns = (BarColumn(length), TextColumn("{task.fields[done]}"), TextColumn("{task.fields[pace]}"))
            self._bar = Bar(*columns, _Scalars(lambda: console.width), console=console)
            self._bar.start()
            self._task = self._bar.add_task(
                "training",
                total=run.steps,
                completed=run.first_step,
                bar=" " * length,
                done=f"{run.first_step}/{run.steps}",
                pace="",
                losses=[],
            )

    def on_step(self, step: int, values: Mapping[str, Tensor]) -> None:
        """Move on."""
        now = time.monotonic()
        due = now >= self._due
        if self._paced is None:
            # The first step chooses kernels and fills caches; what it takes says nothing of the others.
            self._paced = (step, now)
        first, began = self._paced
        pace = "" if step == first else _pace(step - first, now - began, self._steps - step)
        if self._bar is not None:
            self._bar.update(self._task, completed=step, done=f"{step}/{self._steps}", pace=pace)
            if due:
                self._bar.update(self._task, losses=_shown(values))
        elif due:
            told = ", ".join(one for one in (pace, *_shown(values)) if one)
            _log.info("step %d of %d, %s", step, self._steps, told)
        if due:
            self._due = now + (self._every_s if self._bar else 30 * self._every_s)

    def on_validation(self, step: int, means: Mapping[str, float], cases: Sequence[Scored]) -> None:
        """Say the means."""
        scores = ", ".join(f"{name} {value:.4g}" for name, value in means.items())
        _log.info("step %d: validation on %d cases: %s", step, len(cases), scores)

    def on_end(self, step: int, error: BaseException | None) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()


def _pace(steps: int, seconds: float, left: int) -> str:
    each = seconds / steps
    rate = f"{1 / each:.3g} steps/s" if each < 1 else f"{each:.3g} s a step"
    return f"{rate}, {duration_text(each * left)} left"


def _shown(values: Mapping[str, Tensor]) -> list[str]:
    """The scalars as text, what the generator learns from first."""
    names = [name for name in values if name != "learning_rate" and not name.endswith("gradient_norm")]
    names.sort(key=lambda name: (name.startswith("discriminator"), name != "generator"))
    return [f"{name} {float(values[name]):.3g}" for name in names]


class TensorBoard(Callback):
    """Scalars of training and validation, and pictures of source, prediction, target and error.

    Args:
        every: steps between scalars of training, each of which waits for the device.
    """

    watches_only = True

    def __init__(self, *, every: Annotated[int, Field(ge=1)] = 10) -> None:
        self._every = every
        self._writer: SummaryWriter | None = None
        self._others_excepthook = threading.excepthook

    def on_start(self, run: RunInfo) -> None:
        """Open the event file in the run's folder; after a resume, events of steps that are done again are dropped."""
        # Seconds, which a run without it need not wait.
        from tensorboard.summary.writer import event_file_writer
        from torch.utils.tensorboard import SummaryWriter

        # Where the disk is full, its thread ends by a traceback on the terminal; the next call here raises the same.
        self._others_excepthook, threading.excepthook = threading.excepthook, self._excepthook
        # The file is named after the host, which may be a person's or a hospital's, and takes no other name.
        with patch.object(event_file_writer, "socket", SimpleNamespace(gethostname=lambda: "medtrans")):
            self._writer = SummaryWriter(str(run.folder / "tensorboard"), purge_step=run.first_step + 1)

    def _excepthook(self, failed: threading.ExceptHookArgs) -> None:
        if not type(failed.thread).__module__.startswith("tensorboard."):
            self._others_excepthook(failed)

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
        threading.excepthook = self._others_excepthook
        if self._writer is not None:
            self._writer.close()
