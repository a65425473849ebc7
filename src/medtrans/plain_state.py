"""Owns state as a file holds it: tensors and plain Python values, which are read without running code."""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from medtrans.errors import DataError, SetupError

__all__ = ["read_state", "state_bytes"]


def state_bytes(state: Mapping[str, Any], name: str) -> memoryview:
    """The state as a file holds it; through memory, since torch's own writer reports a full disk without its name.

    What could not be read back is refused now, rather than when a run of days is to be resumed.

    Raises:
        SetupError: the state holds other than tensors and plain values.
    """
    buffer = io.BytesIO()
    try:
        torch.save(dict(state), buffer)
        buffer.seek(0)
        read_state(buffer, name)
    except (DataError, pickle.PicklingError, AttributeError, TypeError) as error:
        raise SetupError(
            f"{name}: the method's state_dict() may hold tensors and plain Python values only ({error})"
        ) from error
    return buffer.getbuffer()


def read_state(file: Path | io.BytesIO, name: str) -> dict[str, Any]:
    """What `state_bytes` made a file of, on the host.

    Raises:
        DataError: it holds anything else, which is not loaded since it may run code.
    """
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except (
        pickle.UnpicklingError,
        RuntimeError,
        EOFError,
        LookupError,
        ValueError,
        TypeError,
        AttributeError,
    ) as error:
        first = str(error).partition(". ")[0]
        raise DataError(f"{name}: not a state of weights and plain values, so it is not loaded ({first})") from error
    if not isinstance(state, dict):
        raise DataError(f"{name}: expected a mapping, found {type(state).__name__}")
    return state
