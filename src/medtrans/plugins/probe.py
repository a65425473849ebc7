"""A look at third-party plugins from outside: each is imported in a child process with a time limit.

`probe` starts `python -m medtrans.plugins.probe` and waits; the child imports the plugin and answers on stdout in one
line of JSON after a mark, since the plugin may print there too. A child that answers nothing has ended or hangs, and
leaves word of where: `os._exit` is replaced by a function that answers first, and faulthandler writes all threads'
traces to stderr shortly before the parent's patience ends.
"""

from __future__ import annotations

import faulthandler
import json
import os
import re
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

from medtrans.errors import MedtransError
from medtrans.plugins.discovery import Origin, is_machinery
from medtrans.plugins.hookspecs import KINDS
from medtrans.plugins.registry import Plugin, Registry

LIMIT_S = 20.0
"""Seconds a plugin has to be imported, where a caller does not say."""

_MARKER = "medtrans-probe:"  # what an answer begins with: a plugin may print too
_EARLIER_S = 0.5  # before the parent's limit, so that the place where an import hangs is still told

_PLACE = re.compile(r"\(.+:\d+\)")
_FRAME = re.compile(r'^  File "(?P<file>[^"]+)", line (?P<line>\d+)', re.MULTILINE)


@dataclass(frozen=True)
class Probe:
    """What a plugin offers, or why it cannot be used.

    Args:
        origin: where it comes from.
        components: names by kind.
        problem: why it cannot be used; "" where it can.
        interface: the version of the plugin interface it was written for; "" where that is not known.
        note: what to know of it although it works.
    """

    origin: Origin
    components: dict[str, list[str]] = field(default_factory=dict)
    problem: str = ""
    interface: str = ""
    note: str = ""


def probe(origin: Origin, limit_s: float | None = None) -> Probe:
    """Import a plugin in a child process and say what it offers; one of medtrans' own needs no child."""
    if origin.own:
        return Probe(origin, **offered_by(Registry().plugin(origin.prefix)))
    files = [Path(origin.location)] if origin.distribution is None else []
    answer, problem = run_in_child("offers", origin.full_prefix, files, limit_s)
    if problem:
        return Probe(origin, problem=f"{problem}{'' if _PLACE.search(problem) else _file_of(origin)}")
    return Probe(origin, **json.loads(answer))


def probe_all(origins: Sequence[Origin], limit_s: float | None = None) -> list[Probe]:
    """`probe` of each, several at a time."""
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        return list(pool.map(lambda origin: probe(origin, limit_s), origins))


def run_in_child(verb: str, argument: str, files: Sequence[Path], limit_s: float | None = None) -> tuple[str, str]:
    """Let a child process answer; returns the answer, and what went wrong with the child itself."""
    limit_s = LIMIT_S if limit_s is None else limit_s
    command = [sys.executable, "-m", "medtrans.plugins.probe", str(time.time() + limit_s), verb, argument]
    command += map(str, files)
    try:
        child = subprocess.run(  # noqa: S603 -- our own module, with names that are only looked up
            [*command, *map(str, files)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=limit_s,
            check=False,
        )
    except subprocess.TimeoutExpired as expired:
        return "", f"its import did not end within {limit_s:g} s{_place_in(_text(expired.stderr))}"
    answers = [line for line in child.stdout.splitlines() if line.startswith(_MARKER)]
    if not answers:
        return "", f"it ended the process while being imported (exit status {child.returncode})"
    return str(json.loads(answers[-1].removeprefix(_MARKER))), ""


def offered_by(plugin: Plugin) -> dict[str, Any]:
    """What a probe says of a plugin that works."""
    offered = {kind: [name for other, name in plugin.components if other == kind] for kind in KINDS}
    return {
        "components": {kind: names for kind, names in offered.items() if names},
        "interface": plugin.interface,
        "note": plugin.note,
    }


def _text(stream: Any) -> str:
    return stream.decode(errors="replace") if isinstance(stream, bytes) else str(stream or "")


def _place_in(trace: str) -> str:
    """` (file:line)` of the innermost frame of a trace by faulthandler that is no machinery."""
    main_thread = trace.rpartition("Thread 0x")[2]  # the last of the trace; others only wait
    for frame in _FRAME.finditer(main_thread):
        if not is_machinery(frame["file"]):
            return f" ({frame['file']}:{frame['line']})"
    return ""


def _file_of(origin: Origin) -> str:
    """` (file:1)` of a plugin's module, found without importing it."""
    if origin.distribution is None:
        return f" ({origin.location}:1)"
    try:
        spec = find_spec(EntryPoint("", origin.location, "").module.partition(".")[0])
    except (ImportError, ValueError, AttributeError):
        return ""
    return f" ({spec.origin}:1)" if spec and spec.origin else ""


def main(arguments: Sequence[str]) -> None:
    """Answer one question: the time it must be answered by, a verb, what it is about, single-file plugins."""
    deadline, verb, argument, *files = arguments
    faulthandler.dump_traceback_later(max(float(deadline) - time.time() - _EARLIER_S, 0.1), exit=False)
    _report_exit()
    _answer({"offers": _offers, "yaml": _yaml}[verb](argument, [Path(file) for file in files]))
    faulthandler.cancel_dump_traceback_later()


def _answer(answer: str) -> None:
    # The real stdout: while a plugin is imported, sys.stdout is caught.
    if sys.__stdout__ is not None:
        sys.__stdout__.write(f"\n{_MARKER}{json.dumps(answer)}\n")
        sys.__stdout__.flush()


def _offers(argument: str, files: Sequence[Path]) -> str:
    try:
        plugin = Registry(files).plugin(argument)
    except MedtransError as error:
        return json.dumps({"problem": str(error)})
    return json.dumps(offered_by(plugin))


def _yaml(argument: str, files: Sequence[Path]) -> str:
    from medtrans.plugins.describe import component_yaml

    kind, _, name = argument.partition("/")
    try:
        return component_yaml(kind, name, Registry(files).find(kind, name).component)
    except MedtransError as error:
        return f"# {error}"


def _report_exit() -> None:
    """Let `os._exit`, which leaves no other trace, say where it was called."""
    leave = os._exit

    def report(status: int) -> NoReturn:
        frames = [frame for frame in traceback.extract_stack()[:-1] if not frame.filename.startswith("<frozen")]
        place = f"{frames[-1].filename}:{frames[-1].lineno}"
        _answer(json.dumps({"problem": f"it ended the process while being imported, by os._exit({status}) ({place})"}))
        leave(status)

    os._exit = report


if __name__ == "__main__":
    main(sys.argv[1:])
