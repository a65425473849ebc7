"""A callback that writes the training curves as a table."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field
from torch import Tensor

from medtrans import Callback, Component, RunInfo, hookimpl

__all__ = ["CurvesTable"]

PLUGIN_API = "1.0"


class CurvesTable(Callback):
    """Write the scalars of training into `curves.csv` in the run's folder.

    Args:
        every: steps between rows; reading a scalar waits for the device.
    """

    def __init__(self, *, every: Annotated[int, Field(ge=1)] = 10) -> None:
        self.every = every
        self.file = Path()

    def on_start(self, run: RunInfo) -> None:
        """Begin the table, or go on with it after a resume."""
        self.file = run.folder / "curves.csv"

    def on_step(self, step: int, values: Mapping[str, Tensor]) -> None:
        """Add a row."""
        if step % self.every:
            return
        begun = self.file.exists()
        with self.file.open("a", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            if not begun:
                writer.writerow(["step", *values])
            writer.writerow([step, *(float(value) for value in values.values())])


@hookimpl
def medtrans_callbacks() -> list[Component]:
    """What this plugin offers; `trial` lets `medtrans plugins test` see rows."""
    return [Component("curves_table", CurvesTable, trial={"options": {"every": 2}})]
