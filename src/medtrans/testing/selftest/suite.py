"""The list of checks and their running, one after another, in a folder that is removed."""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

from medtrans.testing.selftest import checkpoint, intensities, lock, orientation, privacy, resume
from medtrans.testing.selftest.outcome import Outcome, quiet

__all__ = ["CHECKS", "Check", "run_checks"]

Check: TypeAlias = tuple[str, str, Callable[[Path], tuple[bool, str]]]
"""Name, promise, and a function that works in a folder and gives verdict and figure."""

CHECKS: tuple[Check, ...] = (
    ("orientation", "a prediction lies where its source lay, to 1e-4 mm", orientation.check),
    ("intensities", "Hounsfield units come back within 0.5", intensities.check),
    ("headers", "no text of a scan's header travels", privacy.check),
    ("checkpoint", "a damaged checkpoint is found and passed over", checkpoint.check),
    ("lock", "one run writes in a folder", lock.check),
    ("resume", "a resumed run ends as an uninterrupted one", resume.check_resume),
    ("kill", "so does a killed one (-9)", resume.check_kill),
)


def run_checks(checks: Sequence[Check] = CHECKS) -> Iterator[Outcome]:
    """Run each check in a folder of its own and give what it found, as soon as it has."""
    with tempfile.TemporaryDirectory(prefix="medtrans-selftest-") as folder:
        for name, promise, check in checks:
            home = Path(folder).resolve() / name.replace(" ", "_")
            home.mkdir()
            yield _outcome(name, promise, check, home)


def _outcome(name: str, promise: str, check: Callable[[Path], tuple[bool, str]], home: Path) -> Outcome:
    begun = time.monotonic()
    try:
        with quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of libraries, about what is bad on purpose
            passed, figure = check(home)
    except Exception as error:  # noqa: BLE001 -- whatever stops a check breaks its promise, and the others are still to be looked at
        passed, figure = False, f"stopped: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return Outcome(name, promise, figure, passed, round(time.monotonic() - begun, 1))
