"""Owns the look at global random states: put back after a rule, compared where they must stay as they were."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

__all__ = ["changed_states", "states", "undisturbed"]

_NAMES = ("random", "numpy.random", "torch")


def states() -> tuple[object, ...]:
    """The global random states of Python, NumPy and torch, to be compared."""
    name, keys, *rest = np.random.get_state()  # noqa: NPY002 -- the global state is what is watched
    return random.getstate(), (name, np.asarray(keys).tobytes(), *rest), torch.random.get_rng_state().numpy().tobytes()


def changed_states(before: tuple[object, ...], *, but: tuple[str, ...] = ()) -> list[str]:
    """The names of the states that are no longer as they were.

    Args:
        before: from `states`.
        but: names that may change: torch's where a component draws from it, as its weights do.
    """
    return [name for name, old, new in zip(_NAMES, before, states(), strict=True) if old != new and name not in but]


@contextmanager
def undisturbed() -> Iterator[None]:
    """Put the global random states back afterwards."""
    python_state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002 -- as above
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)  # noqa: NPY002 -- as above
