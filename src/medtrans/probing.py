"""Owns the look at third-party plugins from outside: each is imported in a child process with a time limit."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from medtrans.errors import MedtransError
from medtrans.hookspecs import KINDS
from medtrans.plugins import Origin, Registry

__all__ = ["Probe", "probe", "run_in_child"]

_LIMIT_S = 20
_MARKER = "medtrans-probe:"


@dataclass(frozen=True)
class Probe:
    """What a plugin offers, by kind, or why it cannot be used."""

    origin: Origin
    components: dict[str, list[str]] = field(default_factory=dict)
    problem: str = ""


def probe(origin: Origin) -> Probe:
    """Import a plugin in a child process and say what it offers."""
    prefix = origin.prefix if origin.distribution is None else f"{origin.prefix}@{origin.distribution}"
    files = [Path(origin.location)] if origin.distribution is None else []
    answer, problem = run_in_child("offers", prefix, files)
    if problem:
        return Probe(origin, problem=problem)
    offered = json.loads(answer)
    return Probe(origin, offered.get("components", {}), offered.get("problem", ""))


def run_in_child(verb: str, argument: str, files: Sequence[Path]) -> tuple[str, str]:
    """Let a child process answer; returns the answer, and what went wrong with the child itself."""
    command = [sys.executable, "-m", "medtrans.probing", verb, argument, *map(str, files)]
    try:
        child = subprocess.run(  # noqa: S603 -- our own module, with names that are only looked up
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return "", f"its import did not end within {_LIMIT_S} s"
    answers = [line for line in child.stdout.splitlines() if line.startswith(_MARKER)]
    if not answers:
        return "", f"it ended the process while being imported (exit status {child.returncode})"
    return str(json.loads(answers[-1].removeprefix(_MARKER))), ""


def _offers(argument: str, files: Sequence[Path]) -> str:
    prefix, _, distribution = argument.partition("@")
    try:
        plugin = Registry(files).plugin(distribution or prefix)
    except MedtransError as error:
        return json.dumps({"problem": str(error)})
    offered = {kind: [name for other, name in plugin.components if other == kind] for kind in KINDS}
    return json.dumps({"components": {kind: names for kind, names in offered.items() if names}})


def _yaml(argument: str, files: Sequence[Path]) -> str:
    from medtrans.show import component_yaml

    kind, _, name = argument.partition("/")
    try:
        return component_yaml(kind, name, Registry(files).find(kind, name).component)
    except MedtransError as error:
        return f"# {error}"


def main(arguments: Sequence[str]) -> None:
    """Answer one question on stdout."""
    verb, argument, *files = arguments
    answer = {"offers": _offers, "yaml": _yaml}[verb](argument, [Path(file) for file in files])
    sys.stdout.write(f"\n{_MARKER}{json.dumps(answer)}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
