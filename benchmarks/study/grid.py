"""The grid of the study: one config for each task, method and size, put together from `grid.yaml`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from medtrans.config.layers import merge_layers
from medtrans.errors import ConfigError

__all__ = ["ABLATIONS", "METHODS", "TASKS", "config"]

_GRID: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "grid.yaml").read_text(encoding="utf-8"))
TASKS, METHODS, ABLATIONS = (tuple(_GRID[kind]) for kind in ("tasks", "methods", "ablations"))


def config(task: str, method: str, *, smoke: bool = False, ablation: str | None = None) -> dict[str, Any]:
    """One config of the grid, as plain data.

    Args:
        task: one of `TASKS`.
        method: one of `METHODS`.
        smoke: small, for two CPU cores.
        ablation: one of `ABLATIONS`; its run lies in a folder of its own.

    Raises:
        ConfigError: the ablation takes out what the method does not have.
    """
    layers = [_GRID["common"], _GRID["tasks"][task], _GRID["methods"][method]]
    if smoke:
        layers += [_GRID["smoke"], _GRID["smoke_methods"][method]]
    if ablation is not None:
        layers.append(_GRID["ablations"][ablation])
    run = f"{task}/{method}" if ablation is None else f"ablations/{ablation}"
    merged = merge_layers([*layers, {"output_dir": f"runs/study/{run}"}], [], {})
    if merged.faults:
        raise ConfigError(*merged.faults)
    return merged.data
