"""Training for long neither grows nor leaks: memory and open files stay as they are."""

from __future__ import annotations

import gc
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.processes import config_of, start

_WARM_STEPS = 60  # until every buffer has its size
_LEAST_STEPS = 1000  # that tell a rate
_WINDOW = 10  # looks of which the least counts: a checkpoint takes some MB for a moment
_MOST_MB_PER_1000_STEPS = 1.0


def own_memory_kib() -> int:
    """What this process has taken for itself; pages of files that it shares or that are read late do not count."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0])


def growth_mb_per_1000_steps(steps: np.ndarray, memory_kib: np.ndarray) -> float:
    """What is usual from one window to the next: a leak grows in each of them, an allocator takes its share once."""
    whole = len(steps) // _WINDOW * _WINDOW
    least = memory_kib[:whole].reshape(-1, _WINDOW).min(axis=1)
    return float(np.median(np.diff(least) / np.diff(steps[:whole:_WINDOW]))) * 1000 / 1024


def soak(config: dict[str, Any], cache: str, out: str, minutes: float) -> None:
    """Train until the time is up; write down (step, resident bytes, open files) after each tenth step."""
    from medtrans.builtin.methods.paired import PairedMethod
    from tests.helpers.processes import train_only

    real, began, rows = PairedMethod.training_step, time.monotonic(), []

    def step(self: PairedMethod, batch: Any, step: int) -> Any:
        if step >= _WARM_STEPS and step % 10 == 0:
            gc.collect()
            rows.append((step, own_memory_kib(), len(list(Path("/proc/self/fd").iterdir()))))
        if time.monotonic() - began > 60 * minutes and step >= _WARM_STEPS + _LEAST_STEPS:
            np.save(out, np.array(rows))
            raise KeyboardInterrupt
        return real(self, batch, step)

    PairedMethod.training_step = step  # type: ignore[method-assign]  # in this process only
    try:
        train_only(config, cache, resume=False, mishap=None)
    except KeyboardInterrupt:
        return


@pytest.mark.parametrize("workers", [pytest.param(0, marks=pytest.mark.soak), pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.timeout(0)
def test_memory_and_open_files_stay_as_they_are(tmp_path: Path, workers: int, request: pytest.FixtureRequest) -> None:
    minutes = request.config.getoption("--soak-minutes")
    config = config_of(
        tmp_path / "run", steps=10_000_000, workers=workers, validate_every=50, checkpoint_every=50, batch=1,
        schedule={"name": "constant"},
    )  # fmt: skip
    out = tmp_path / "rows.npy"
    processes = start(tmp_path, soak, config, str(tmp_path / "cache"), str(out), minutes)
    assert processes.ended(limit_s=60 * minutes + 3600) == [0], processes.said
    steps, memory_kib, files = np.load(out).T
    growth = growth_mb_per_1000_steps(steps, memory_kib)
    figures = f"{growth:.3f} MB per 1000 steps over {steps[-1] - steps[0]}, {files.min()} to {files.max()} open files"
    sys.stdout.write(f"{figures}\n")
    assert growth < _MOST_MB_PER_1000_STEPS, figures
    assert files[-10:].max() <= files[:10].max(), figures


def test_a_leak_of_each_step_shows_and_what_an_allocator_takes_once_does_not() -> None:
    steps = np.arange(60, 1070, 10)
    taken_once = 400_000 + 3_000 * (steps > 500)
    assert growth_mb_per_1000_steps(steps, taken_once) < _MOST_MB_PER_1000_STEPS
    assert growth_mb_per_1000_steps(steps, taken_once + 2 * steps) > _MOST_MB_PER_1000_STEPS
