"""Owns silence while checks run what would otherwise talk."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout

__all__ = ["quiet"]


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
