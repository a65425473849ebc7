"""Owns the fence around a plugin's import: what it breaks or changes stays inside."""

from __future__ import annotations

import inspect
import io
import os
import random
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from medtrans.tampering import Snapshot, tampered

__all__ = ["PluginError", "contained", "load_file", "place_of", "place_of_name"]


class PluginError(Exception):
    """Why a plugin cannot be used, with the place in its own code where that is known."""


@contextmanager
def contained(location: str) -> Iterator[list[str]]:
    """Run a plugin's import and hooks; whatever it raises becomes a `PluginError`.

    Random states, stdout, torch's default type and the working directory are as before afterwards. A plugin that puts
    functions or classes of its own into torch, NumPy or medtrans is refused, and they are put back. After a fault the
    modules it brought are dropped, so that a mended plugin can be imported afresh. A plugin that hangs or ends the
    process cannot be stopped from inside.

    Args:
        location: the plugin's module or file, to know its modules by.

    Yields:
        remarks on what had to be undone although nothing broke; filled when the block ends.
    """
    states, held = _GlobalStates(), Snapshot()
    before = set(sys.modules)
    printed = io.StringIO()
    remarks: list[str] = []
    try:
        with redirect_stdout(printed):
            yield remarks
            _refuse_tampering(location)
    except PluginError:
        _undo(before, held, location)
        raise
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        _undo(before, held, location)
        raise PluginError(_cause(error)) from error
    finally:
        remarks += [f"it prints {line!r} while being imported" for line in printed.getvalue().split("\n")[:1] if line]
        remarks += [f"it changes {state} while being imported" for state in states.changed()]
        states.restore()


def load_file(file: Path) -> ModuleType:
    """Import one file as a module of its own name space."""
    name = _file_module(file)
    spec = spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise PluginError(f"{file} is not a Python module")
    module = module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _file_module(file: Path) -> str:
    return f"medtrans_file_{file.stem}"


def place_of(function: Callable[..., object]) -> str:
    """` (file:line)` of a function, or nothing where it has none."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    return f" ({code.co_filename}:{code.co_firstlineno})" if code else ""


def place_of_name(module: ModuleType, name: str) -> str:
    """` (file:line)` of the line that sets a name in a module."""
    file = getattr(module, "__file__", None)
    if file is None:
        return ""
    lines = Path(file).read_text(encoding="utf-8", errors="replace").splitlines()
    number = next((number for number, line in enumerate(lines, 1) if line.startswith(name)), 1)
    return f" ({file}:{number})"


def _own_modules(location: str) -> set[str]:
    return {location.partition(".")[0], _file_module(Path(location))}


def _refuse_tampering(location: str) -> None:
    changed = [name for own in _own_modules(location) for name in tampered(own)]
    if changed:
        raise PluginError(f"it changes {', '.join(changed[:3])}, which every other part would meet")


def _undo(before: set[str], held: Snapshot, location: str) -> None:
    for own in _own_modules(location):
        held.restore(own)
        for name in set(sys.modules) - before:
            if name.partition(".")[0] == own:
                del sys.modules[name]


def _cause(error: BaseException) -> str:
    text = " ".join(str(error).split()) or "no message"
    if isinstance(error, SyntaxError):
        return f"SyntaxError: {error.msg} ({error.filename}:{error.lineno})"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_ours(frame.filename)]
    place = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {text}{place}"


def _is_ours(filename: str) -> bool:
    machinery = ("<frozen importlib", str(Path(__file__).parent))
    return filename.startswith(machinery) or "importlib" in filename or "pluggy" in filename


class _GlobalStates:
    """What is global now and must be so afterwards: random states, the working directory, torch's default type."""

    def __init__(self) -> None:
        self._folder, self._random = _working_directory(), random.getstate()
        numpy, torch = _imported("numpy"), _imported("torch")
        self._numpy = None if numpy is None else numpy.random.get_state()
        self._torch = None if torch is None else torch.random.get_rng_state()
        self._type = None if torch is None else torch.get_default_dtype()

    def changed(self) -> list[str]:
        """What is no longer as it was."""
        numpy, torch = _imported("numpy"), _imported("torch")
        found = {
            "the working directory": _working_directory() != self._folder,
            "the random state of Python": random.getstate() != self._random,
            "the random state of NumPy": self._numpy is not None
            and _comparable(numpy.random.get_state()) != _comparable(self._numpy),
            "the random state of torch": self._torch is not None
            and not torch.equal(torch.random.get_rng_state(), self._torch),
            "torch's default type": torch is not None
            and torch.get_default_dtype() != (torch.float32 if self._type is None else self._type),
        }
        return [name for name, different in found.items() if different]

    def restore(self) -> None:
        """Put it all back; what was imported meanwhile starts as it does in a new process."""
        if self._folder is not None:
            os.chdir(self._folder)
        random.setstate(self._random)
        if (numpy := _imported("numpy")) is not None:
            numpy.random.seed() if self._numpy is None else numpy.random.set_state(self._numpy)
        if (torch := _imported("torch")) is not None:
            torch.seed() if self._torch is None else torch.random.set_rng_state(self._torch)
            torch.set_default_dtype(torch.float32 if self._type is None else self._type)


def _comparable(state: Any) -> list[object]:
    """NumPy's state, which holds an array, as values that compare."""
    return [part.tolist() if hasattr(part, "tolist") else part for part in state]


def _imported(name: str) -> Any:
    """A module that has been imported to its end, or None."""
    module = sys.modules.get(name)
    return module if hasattr(module, "random") else None


def _working_directory() -> Path | None:
    try:
        return Path.cwd()
    except FileNotFoundError:  # somebody removed it
        return None
