"""A callback that sends curves, scores and pictures to Weights & Biases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field
from torch import Tensor

from medtrans import Callback, Component, RunInfo, Scored, SetupError, hookimpl

__all__ = ["WeightsAndBiases"]

PLUGIN_API = "1.0"


class WeightsAndBiases(Callback):
    """Curves of training and validation at Weights & Biases (`pip install wandb`).

    Whatever is sent leaves the machine: scalars and the config go by default, pictures of patients only on request.
    Cases go by number unless the run shows names.

    Args:
        project: what the runs are grouped under.
        mode: `offline` keeps everything in the run's folder, to be sent by `wandb sync` later.
        every: steps between scalars of training; reading one waits for the device.
        pictures: send pictures of validation cases too.
    """

    def __init__(
        self,
        *,
        project: str = "medtrans",
        mode: Literal["online", "offline"] = "offline",
        every: Annotated[int, Field(ge=1)] = 10,
        pictures: bool = False,
    ) -> None:
        self.project, self.mode, self.every, self.pictures = project, mode, every, pictures
        self.client: Any = None
        self.run: Any = None

    def on_start(self, run: RunInfo) -> None:
        """Open a run of the same name as the folder.

        Raises:
            SetupError: wandb is not installed.
        """
        try:
            import wandb
        except ImportError as error:
            raise SetupError("callbacks.wandb: wandb is not installed; pip install wandb, or take it out") from error
        self.client = wandb
        self.run = wandb.init(
            project=self.project,
            name=run.folder.name,
            dir=str(run.folder),
            config=dict(run.config),
            mode=self.mode,
        )

    def on_step(self, step: int, values: Mapping[str, Tensor]) -> None:
        """Send the scalars of a step."""
        if step % self.every == 0:
            self.run.log({f"train/{name}": float(value) for name, value in values.items()}, step=step)

    def on_validation(self, step: int, means: Mapping[str, float], cases: Sequence[Scored]) -> None:
        """Send the means of a validation, and where wanted its pictures."""
        sent: dict[str, Any] = {f"validation/{name}": value for name, value in means.items()}
        if self.pictures:
            sent |= {f"cases/{case.label}": self.client.Image(case.picture) for case in cases}
        self.run.log(sent, step=step)

    def on_end(self, step: int, error: BaseException | None) -> None:
        """Close the run, as failed if it was."""
        if self.run is not None:
            self.run.finish(exit_code=0 if error is None else 1)


@hookimpl
def medtrans_callbacks() -> list[Component]:
    """What this plugin offers."""
    return [Component("wandb", WeightsAndBiases)]
