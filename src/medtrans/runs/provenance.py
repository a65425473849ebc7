"""The facts about the machine and the software that a run records."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from medtrans._version import __version__

__all__ = ["environment_facts"]


_RECORDED = ("torch", "numpy", "scipy", "scikit-image", "nibabel", "torchio", "lightning-fabric", "safetensors")


def environment_facts(**more: Any) -> dict[str, Any]:
    """Versions, processor and devices; nothing that names a person, a machine or a path."""
    import torch

    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "medtrans": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": gpus,
        "packages": {name: _version(name) for name in _RECORDED},
        "command": _command(sys.argv),
        **more,
    }


def _command(arguments: Sequence[str]) -> str:
    """The verb and its flags; config.yaml of the run's folder stands for all the files, names and values there were."""
    program, *given = arguments
    if "medtrans" not in Path(program).name and Path(program).parent.name != "medtrans":
        return "the Python API"
    flags = [one.partition("=")[0] for one in given[1:] if one.startswith("--")]
    return " ".join(["medtrans", *given[:1], "config.yaml", *flags])


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123 -- a kernel file, read line by line
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"
