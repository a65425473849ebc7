"""Watchers whose failure costs nothing but themselves."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from torch import Tensor

from medtrans.plugins.interfaces import Callback, RunInfo, Scored

__all__ = ["Contained", "contained"]


_log = logging.getLogger("medtrans")


def contained(name: str, watcher: Callback) -> Callback:
    """The watcher, behind a fence where it says that it only watches."""
    return Contained(name, watcher) if getattr(watcher, "watches_only", False) else watcher


class Contained(Callback):
    """A watcher that is left out, with a warning, once it has failed: in starting, in between or in ending.

    Args:
        name: in the config.
        watcher: the watcher itself.
    """

    def __init__(self, name: str, watcher: Callback) -> None:
        self._name, self._watcher, self._failed = name, watcher, False

    def on_start(self, run: RunInfo) -> None:
        self._tell("on_start", run)

    def on_step(self, step: int, values: Mapping[str, Tensor]) -> None:
        self._tell("on_step", step, values)

    def on_validation(self, step: int, means: Mapping[str, float], cases: Sequence[Scored]) -> None:
        self._tell("on_validation", step, means, cases)

    def on_checkpoint(self, step: int, folder: Path) -> None:
        self._tell("on_checkpoint", step, folder)

    def on_end(self, step: int, error: BaseException | None) -> None:
        self._tell("on_end", step, error)

    def _tell(self, hook: str, *news: object) -> None:
        if self._failed:
            return
        try:
            getattr(self._watcher, hook)(*news)
        except Exception as error:  # noqa: BLE001 -- whatever it is, training is worth more than what watches it
            self._failed = True
            said = next(iter(str(error).splitlines()), "")[:200]
            _log.warning(
                "callbacks.%s failed (%s: %s); the run goes on without it. callbacks.%s=null leaves it out",
                self._name,
                type(error).__name__,
                said,
                self._name,
            )
            with suppress(Exception):  # it may hold a terminal or a file
                self._watcher.on_end(0, error)
