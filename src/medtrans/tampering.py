"""Owns the look for what a plugin changed in modules of others: names it put its own functions and classes under."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import FunctionType, MethodType, ModuleType
from typing import Any

__all__ = ["Snapshot", "tampered"]

_WATCHED = ("torch", "torch.nn", "torch.nn.functional", "torch.optim", "torch.cuda", "numpy", "numpy.random", "random")
_WATCHED_PACKAGE = "medtrans"


class Snapshot:
    """What watched modules hold now, to be put back later; modules that are not imported yet are not looked at."""

    def __init__(self) -> None:
        self._held = {id(holder): (holder, dict(vars(holder))) for _, holder in _holders()}

    def restore(self, module: str) -> None:
        """Put back every name that leads to something of `module` and did not at the time of the snapshot."""
        for holder, before in self._held.values():
            for name in [name for name, now in vars(holder).items() if _home(now) == module]:
                if name not in before:
                    delattr(holder, name)
                elif vars(holder)[name] is not before[name]:
                    setattr(holder, name, before[name])


def tampered(module: str) -> list[str]:
    """The full names, in modules of others, that lead to functions or classes of `module`.

    Args:
        module: the plugin's top-level module.
    """
    return sorted(
        f"{path}.{name}"
        for path, holder in _holders()
        if path.partition(".")[0] != module
        for name, value in list(vars(holder).items())
        if _home(value) == module
    )


def _holders() -> Iterator[tuple[str, Any]]:
    """Watched modules and the classes in them, with their full names."""
    modules = {
        name: module
        for name, module in list(sys.modules.items())
        if isinstance(module, ModuleType)
        and (name in _WATCHED or name == _WATCHED_PACKAGE or name.startswith(f"{_WATCHED_PACKAGE}."))
    }
    classes = {}
    for name, module in modules.items():
        yield name, module
        for value in list(vars(module).values()):
            if isinstance(value, type) and value.__module__.partition(".")[0] == name.partition(".")[0]:
                classes[id(value)] = value
    for value in classes.values():
        yield f"{value.__module__}.{value.__qualname__}", value


def _home(value: Any) -> str:
    """The top-level module in which a function or class was written."""
    if isinstance(value, staticmethod | classmethod | MethodType):
        value = value.__func__
    if isinstance(value, FunctionType):
        return str(value.__globals__.get("__name__", "")).partition(".")[0]
    return str(value.__module__).partition(".")[0] if isinstance(value, type) else ""
