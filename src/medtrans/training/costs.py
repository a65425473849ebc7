"""What a run costs: parameters, seconds of a training step and of a translated volume, and memory."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn

from medtrans.plugins.interfaces import Callback, Scored
from medtrans.runs.session import environment_facts
from medtrans.utils.files import write_json
from medtrans.utils.messages import duration

__all__ = ["StepClock", "costs_text", "device_text", "keep_training_costs", "keep_translation_costs", "read_costs"]


_WARM_UP = 10
"""First steps that are not counted, where there are more than twice as many: they choose kernels and fill caches."""


class StepClock(Callback):
    """Seconds of each step with its wait for data, without validations and checkpoints.

    The last of the callbacks, so that what the others do then is not counted. A GPU runs behind; the loop waits for it
    before every validation and checkpoint and at the last step, so that the mean is right though single steps are not.
    """

    def __init__(self) -> None:
        self._seconds: list[float] = []
        self._mark: float | None = None

    def on_step(self, step: int, values: Mapping[str, Tensor]) -> None:
        """Count the step; the first has no beginning that could be known."""
        now = time.perf_counter()
        if self._mark is not None:
            self._seconds.append(now - self._mark)
        self._mark = now

    def on_validation(self, step: int, means: Mapping[str, float], cases: Sequence[Scored]) -> None:
        """Count from here."""
        self._mark = time.perf_counter()

    def on_checkpoint(self, step: int, folder: Path) -> None:
        """Count from here."""
        self._mark = time.perf_counter()

    def counted(self) -> list[float]:
        """Seconds of the steps that count."""
        return self._seconds[_WARM_UP:] if len(self._seconds) > 2 * _WARM_UP else self._seconds


def keep_training_costs(path: Path, networks: Mapping[str, nn.Module], clock: StepClock, ranks: int) -> None:
    """Record what training cost; a run that had no step left to do keeps what is there.

    Args:
        path: of `costs.json`.
        networks: by name; trainable numbers are counted, each once; averages of weights have none.
        clock: that saw the steps.
        ranks: processes that shared each step.
    """
    seconds = clock.counted()
    if not seconds:
        return
    counts = {
        name: sum(one.numel() for one in network.parameters() if one.requires_grad)
        for name, network in networks.items()
    }
    _keep(
        path,
        {
            "parameters": {name: count for name, count in counts.items() if count},
            "training": {
                "seconds_per_step": fmean(seconds),
                "steps": len(seconds),
                "ranks": ranks,
                "memory_bytes": _most_memory(),
                **_device(),
            },
        },
    )


def keep_translation_costs(path: Path, seconds: Sequence[float]) -> None:
    """Record what translating cost.

    Args:
        path: of `costs.json`.
        seconds: of each whole volume, from the prepared source to the prediction on the prepared grid.
    """
    if seconds:
        found = {"seconds_per_volume": fmean(seconds), "volumes": len(seconds), **_device()}
        _keep(path, {"translation": found})


def read_costs(path: Path) -> dict[str, Any]:
    """What `costs.json` holds; nothing where there is none, as in runs that ended before it was kept."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def costs_text(costs: Mapping[str, Any]) -> str:
    """What was spent and what a translation takes, in plain sentences; empty where nothing is known."""
    said = []
    if training := costs.get("training"):
        step, steps = training["seconds_per_step"], training["steps"]
        counted = f"{steps:,} step{'' if steps == 1 else 's'}"
        said.append(f"Training took {duration(step * steps)} for {counted} ({step:.3g} s a step)")
        if training["memory_bytes"] is not None:
            said[0] += f" and at most {training['memory_bytes'] / 2**30:.3g} GiB of {training['memory']}"
        said[0] += f", on {training['device']}."
    if translation := costs.get("translation"):
        took = duration(translation["seconds_per_volume"])
        said.append(
            f"Translating one volume took {took} on {translation['device']}, without reading and writing files."
        )
    if counts := costs.get("parameters"):
        sizes = ", ".join(f"{count:,} ({name})" for name, count in counts.items())
        said.append(f"Trained numbers: {sizes}.")
    return " ".join(said)


def device_text(device: torch.device) -> str:
    """The device as a reader knows it."""
    if device.type == "cuda":
        return f"GPU {torch.cuda.get_device_name(device)}"
    return f"CPU ({torch.get_num_threads()} threads)" if device.type == "cpu" else device.type


def _keep(path: Path, found: Mapping[str, Any]) -> None:
    write_json(path, {**read_costs(path), **found})


def _device() -> dict[str, str]:
    facts = environment_facts()
    if facts["gpus"]:
        return {"device": facts["gpus"][0], "memory": "GPU memory that tensors took"}
    return {"device": facts["processor"], "memory": "memory of the process"}


def _most_memory() -> int | None:
    """Bytes, so far; None where the system does not say."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    try:
        import resource  # not everywhere
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
