"""The list of checks, their running, and how that is shown: a table on a terminal, else a line each, or JSON."""

from __future__ import annotations

import io
import json
import logging
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeAlias

from rich.console import Console
from rich.table import Table

from medtrans._version import __version__
from medtrans.testing.selftest import runs, translation

__all__ = ["CHECKS", "Check", "Outcome", "as_json", "quiet", "run_checks", "show"]

Check: TypeAlias = tuple[str, str, Callable[[Path], tuple[bool, str]]]
"""Name, promise, and a function that works in a folder and gives verdict and figure."""

CHECKS: tuple[Check, ...] = (
    ("orientation", "a prediction lies where its source lay, to 1e-4 mm", translation.check_orientation),
    ("intensities", "Hounsfield units come back within 0.5", translation.check_intensities),
    ("headers", "no text of a scan's header travels", translation.check_headers),
    ("checkpoint", "a damaged checkpoint is found and passed over", runs.check_checkpoint),
    ("lock", "one run writes in a folder", runs.check_lock),
    ("resume", "a resumed run ends as an uninterrupted one", runs.check_resume),
    ("kill", "so does a killed one (-9)", runs.check_kill),
)


@dataclass(frozen=True)
class Outcome:
    """What a check found.

    Args:
        name: of the check.
        promise: what it holds medtrans to.
        figure: what was found, in numbers.
        passed: whether the promise is kept.
        seconds: it took.
    """

    name: str
    promise: str
    figure: str
    passed: bool
    seconds: float


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


@contextmanager
def quiet() -> Iterator[None]:
    """No log, no progress, no output."""
    log = logging.getLogger("medtrans")
    before, passed_on = log.level, log.propagate
    log.propagate = False
    silent = logging.NullHandler()
    log.addHandler(silent)
    try:
        with redirect_stderr(io.StringIO()), redirect_stdout(io.StringIO()):
            yield
    finally:
        log.removeHandler(silent)
        log.propagate = passed_on
        log.setLevel(before)


def show(outcomes: Iterable[Outcome], console: Console) -> bool:
    """Show outcomes as they come; whether all promises are kept."""
    if not console.is_terminal:
        return _as_lines(outcomes, console)
    found = []
    with console.status("checking") as status:
        for outcome in outcomes:
            found.append(outcome)
            status.update(f"checked {outcome.name}")
    table = Table(title=f"medtrans {__version__} on this machine")
    for heading in ("check", "promise", "found", "s", ""):
        table.add_column(heading, justify="right" if heading == "s" else "left")
    for one in found:
        verdict = "[green]kept[/green]" if one.passed else "[bold red]BROKEN[/bold red]"
        table.add_row(one.name, one.promise, one.figure, f"{one.seconds:.1f}", verdict)
    console.print(table)
    return all(one.passed for one in found)


def as_json(outcomes: Iterable[Outcome]) -> tuple[str, bool]:
    """All outcomes as JSON, and whether all promises are kept."""
    found = list(outcomes)
    passed = all(one.passed for one in found)
    data = {"medtrans": __version__, "passed": passed, "checks": [asdict(one) for one in found]}
    return json.dumps(data, indent=2, ensure_ascii=False), passed


def _as_lines(outcomes: Iterable[Outcome], console: Console) -> bool:
    passed, seconds, count = True, 0.0, 0
    for one in outcomes:
        verdict = "kept" if one.passed else "BROKEN"
        console.out(f"{verdict:6}  {one.name:13}  {one.seconds:5.1f} s  {one.figure} ({one.promise})", highlight=False)
        passed, seconds, count = passed and one.passed, seconds + one.seconds, count + 1
    console.out(f"{count} checks in {seconds:.0f} s: {'all promises kept' if passed else 'NOT all promises kept'}")
    return passed
