"""Owns the child process that imports a plugin and answers one question about it on stdout."""

from __future__ import annotations

import faulthandler
import json
import os
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from medtrans.errors import MedtransError
from medtrans.plugins import Registry
from medtrans.probing import MARKER, offered_by

__all__ = ["main"]

_EARLIER_S = 0.5  # before the parent's limit, so that the place where an import hangs is still told


def main(arguments: Sequence[str]) -> None:
    """Answer one question: the time it must be answered by, a verb, what it is about, single-file plugins."""
    deadline, verb, argument, *files = arguments
    faulthandler.dump_traceback_later(max(float(deadline) - time.time() - _EARLIER_S, 0.1), exit=False)
    _watch_the_exit()
    _say({"offers": _offers, "yaml": _yaml}[verb](argument, [Path(file) for file in files]))
    faulthandler.cancel_dump_traceback_later()


def _say(answer: str) -> None:
    # The real stdout: while a plugin is imported, sys.stdout is caught.
    if sys.__stdout__ is not None:
        sys.__stdout__.write(f"\n{MARKER}{json.dumps(answer)}\n")
        sys.__stdout__.flush()


def _offers(argument: str, files: Sequence[Path]) -> str:
    try:
        plugin = Registry(files).plugin(argument)
    except MedtransError as error:
        return json.dumps({"problem": str(error)})
    return json.dumps(offered_by(plugin))


def _yaml(argument: str, files: Sequence[Path]) -> str:
    from medtrans.show import component_yaml

    kind, _, name = argument.partition("/")
    try:
        return component_yaml(kind, name, Registry(files).find(kind, name).component)
    except MedtransError as error:
        return f"# {error}"


def _watch_the_exit() -> None:
    """Let `os._exit`, which leaves no other trace, say where it was called."""
    leave = os._exit

    def told(status: int) -> NoReturn:
        frames = [frame for frame in traceback.extract_stack()[:-1] if not frame.filename.startswith("<frozen")]
        place = f"{frames[-1].filename}:{frames[-1].lineno}"
        _say(json.dumps({"problem": f"it ended the process while being imported, by os._exit({status}) ({place})"}))
        leave(status)

    os._exit = told


if __name__ == "__main__":
    main(sys.argv[1:])
