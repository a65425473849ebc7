"""Owns the fence around a plugin's import: what it breaks or changes stays inside."""

from __future__ import annotations

import io
import logging
import random
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

__all__ = ["PluginError", "contained", "load_file"]

_log = logging.getLogger("medtrans")


class PluginError(Exception):
    """Why a plugin cannot be used, with the place in its own code where that is known."""


@contextmanager
def contained(location: str) -> Iterator[None]:
    """Run a plugin's import and hooks; whatever it raises becomes a `PluginError`.

    Random states and stdout are as before afterwards, and after a fault the modules it brought are dropped, so that a
    mended plugin can be imported afresh. A plugin that hangs or ends the process cannot be stopped from inside.

    Args:
        location: the plugin's module or file, to know its modules by.
    """
    restore = _random_states()
    before = set(sys.modules)
    printed = io.StringIO()
    try:
        with redirect_stdout(printed):
            yield
    except PluginError:
        _drop(before, location)
        raise
    except (Exception, SystemExit) as error:
        _drop(before, location)
        raise PluginError(_cause(error)) from error
    finally:
        restore()
        if printed.getvalue():
            _log.debug("%s printed at import: %s", location, printed.getvalue().strip())


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


def _drop(before: set[str], location: str) -> None:
    own = {location.partition(".")[0], _file_module(Path(location))}
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in own:
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


def _random_states() -> Callable[[], None]:
    """A function that puts back the global random states of now."""
    undo: list[Callable[[], object]] = []
    python_state = random.getstate()
    undo.append(lambda: random.setstate(python_state))
    if (numpy := sys.modules.get("numpy")) is not None:
        numpy_state = numpy.random.get_state()
        undo.append(lambda: numpy.random.set_state(numpy_state))
    if (torch := sys.modules.get("torch")) is not None:
        torch_state = torch.random.get_rng_state()
        undo.append(lambda: torch.random.set_rng_state(torch_state))

    def restore() -> None:
        for step in undo:
            step()

    return restore
