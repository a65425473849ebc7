"""The curves and pictures in TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import Field
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from medtrans import Callback, RunInfo, Scored

__all__ = ["TensorBoard"]


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
