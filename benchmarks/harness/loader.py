"""The rate of the loader by itself, against the rate at which steps want batches."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from benchmarks.harness.subject import Subject

__all__ = ["loader_facts", "timed_patches"]

_LONGEST_S = 3.0
_MOST = 200
_LEAST = 3


def loader_facts(subject: Subject, step_s: float) -> dict[str, Any]:
    """How many patches the loader makes in a second, and whether steps wait for it.

    Args:
        subject: whose loader, with the config's workers.
        step_s: seconds of a step without its wait for data.
    """
    workers = subject.experiment.config.train.workers
    with subject.batches() as batches:
        rate, size = timed_patches((len(batch.source) for batch in batches), skip=1 + 2 * workers)
    wanted = size / step_s
    return {
        "patches_per_s": rate,
        "patches_per_s_that_steps_take": wanted,
        "workers": workers,
        "slow": "loader" if rate < wanted else "step",
    }


def timed_patches(sizes: Iterator[int], skip: int) -> tuple[float, int]:
    """Patches a second, and in the last batch.

    Args:
        sizes: of batches, as a loader gives them.
        skip: batches that were made ahead and do not count.
    """
    for _ in range(skip):
        next(sizes)
    begun, count, patches, size = time.perf_counter(), 0, 0, 0
    while count < _LEAST or (count < _MOST and time.perf_counter() - begun < _LONGEST_S):
        size = next(sizes)
        count, patches = count + 1, patches + size
    return patches / (time.perf_counter() - begun), size
