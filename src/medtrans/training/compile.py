"""The compilation of a network by torch, and whether this machine can do it."""

from __future__ import annotations

from typing import Literal, TypeAlias, cast

import torch
from torch import nn

from medtrans.errors import SetupError

__all__ = ["CompileMode", "check_compiler", "compiled"]


CompileMode: TypeAlias = Literal["default", "reduce-overhead"]


def compiled(network: nn.Module, mode: CompileMode) -> nn.Module:
    """The network as torch compiles it on its first call; weights and their names are those of the network itself.

    Args:
        network: left as it is.
        mode: of `torch.compile`.
    """
    return cast("nn.Module", torch.compile(network, mode=mode))


def check_compiler(device: torch.device) -> None:
    """Compile something tiny, so that a machine that cannot is known before the first step.

    Raises:
        SetupError: torch cannot compile for this device.
    """
    try:
        torch.compile(_increment)(torch.zeros(2, device=device))
    except Exception as error:  # what is missing shows in errors of torch's own, of a compiler or of the system
        needs = "a C++ compiler such as g++" if device.type == "cpu" else "Triton and a C compiler"
        raise SetupError(
            f"train.compile: torch cannot compile for {device.type} on this machine ({_reason(error)}); it needs "
            f"{needs}. Install it, or set train.compile=null"
        ) from error


def _increment(values: torch.Tensor) -> torch.Tensor:
    return values + 1


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
