"""What a check found, and how that is shown: a table on a terminal, a line each where there is none, or JSON."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from medtrans._version import __version__

__all__ = ["Outcome", "as_json", "quiet", "show"]


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

    def as_data(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


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
    data = {"medtrans": __version__, "passed": passed, "checks": [one.as_data() for one in found]}
    return json.dumps(data, indent=2, ensure_ascii=False), passed


def _as_lines(outcomes: Iterable[Outcome], console: Console) -> bool:
    passed, seconds, count = True, 0.0, 0
    for one in outcomes:
        verdict = "kept" if one.passed else "BROKEN"
        console.out(f"{verdict:6}  {one.name:13}  {one.seconds:5.1f} s  {one.figure} ({one.promise})", highlight=False)
        passed, seconds, count = passed and one.passed, seconds + one.seconds, count + 1
    console.out(f"{count} checks in {seconds:.0f} s: {'all promises kept' if passed else 'NOT all promises kept'}")
    return passed
