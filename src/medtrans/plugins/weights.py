"""Network weights in files that others made: read without running code, and checked against the network."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from medtrans.errors import SetupError

_UNREADABLE = (
    OSError,
    EOFError,
    RuntimeError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    struct.error,
    pickle.UnpicklingError,
    SafetensorError,
)
"""What the readers raise for bytes that are no weights: torch's restricted unpickler trips over them in many ways."""


def read_weights(file: Path, network: nn.Module, origin: str) -> dict[str, Tensor]:
    """The tensors that a network needs, out of a file of published weights; no code that the file carries is run.

    The file may hold more, such as a classifier. Give the result to `network.load_state_dict`.

    Args:
        file: `.safetensors`, or what `torch.save` writes of names and tensors. A training's checkpoint with these under
            `state_dict`, and the `module.` that data-parallel training puts before names, are understood.
        network: has the names and shapes that are wanted, on any device, `meta` included.
        origin: whose names these are, for messages: "torchvision's VGG-19".

    Returns:
        one tensor, on the host, for each name of the network's `state_dict`.

    Raises:
        SetupError: the file cannot be read, or is of another network; every tensor that is amiss is named.

    Example:
        >>> weights = read_weights(Path("vgg19.pth"), network, "torchvision's VGG-19")  # doctest: +SKIP
        >>> network.load_state_dict(weights)  # doctest: +SKIP
    """
    found = read_tensors(file)
    faults, fitting = [], {}
    for name, wanted in network.state_dict().items():
        tensor = found.get(name, found.get(f"module.{name}"))
        if not isinstance(tensor, Tensor):
            faults.append(f"{file}: no tensor {name!r}; expected {origin} with names such as that")
        elif tensor.shape != wanted.shape:
            faults.append(f"{file}: {name} has shape {tuple(tensor.shape)}, expected {tuple(wanted.shape)}")
        else:
            fitting[name] = tensor
    if faults:
        raise SetupError(*faults)
    return fitting


def read_tensors(file: Path) -> Mapping[str, Any]:
    """All that a file of weights holds, by name, out of `state_dict` where there is one.

    Raises:
        SetupError: it cannot be read as that.
    """
    try:
        found = (
            load_file(file)
            if file.suffix == ".safetensors"
            else torch.load(file, map_location="cpu", weights_only=True)
        )
    except _UNREADABLE as error:
        raise SetupError(f"{file}: cannot be read as network weights: {error}") from error
    if isinstance(found, Mapping):
        found = found.get("state_dict", found)
    if not isinstance(found, Mapping):
        raise SetupError(f"{file}: holds a {type(found).__name__}, expected a mapping of names to tensors")
    return found
