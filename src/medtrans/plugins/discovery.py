"""Plugins found in installed packages' entry points, and the fence around their import.

What a plugin raises becomes one error, with its cause and line, and stops no other.
"""

from __future__ import annotations

import inspect
import io
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

GROUP = "medtrans"
_OWN_DISTRIBUTION = "medtrans"
_OF_FILES = "medtrans_file_"  # before the stem of a single-file plugin, as a module's name


@dataclass(frozen=True)
class Origin:
    """Where a plugin comes from.

    Args:
        prefix: what stands before the colon in a config.
        distribution: the installed package, or None for a single file.
        version: of the package; "file" for a single file.
        location: the module it names, or the file's path.
    """

    prefix: str
    distribution: str | None
    version: str
    location: str

    def __str__(self) -> str:
        package = f" from {self.distribution} {self.version}" if self.distribution else ""
        return f"plugin '{self.prefix}'{package} ({self.location})"

    @property
    def remedy(self) -> str:
        """How to be rid of it."""
        return f"pip uninstall {self.distribution}" if self.distribution else f"leave out --plugin {self.location}"

    @property
    def own(self) -> bool:
        """Whether it comes with medtrans itself, as the built-ins and TorchIO's transforms do."""
        return normalised(self.distribution) == _OWN_DISTRIBUTION

    @property
    def full_prefix(self) -> str:
        """What selects it also where another package has the same prefix."""
        return self.distribution or self.prefix

    def load(self) -> ModuleType:
        """The plugin's module, imported."""
        if self.distribution is None:
            return load_file(Path(self.location))
        module: ModuleType = EntryPoint(self.prefix, self.location, GROUP).load()
        return module


def discover() -> tuple[Origin, ...]:
    """The plugins that installed packages announce, sorted, none of them imported."""
    origins = [
        Origin(point.name, point.dist.name, point.dist.version, point.value)
        for point in entry_points(group=GROUP)
        if point.dist is not None
    ]
    return tuple(sorted(origins, key=lambda origin: (origin.prefix, origin.distribution or "")))


def normalised(distribution: str | None) -> str:
    """A package's name as registries compare it."""
    return re.sub(r"[-_.]+", "-", distribution or "").lower()


class PluginError(Exception):
    """Why a plugin cannot be used, with the place in its own code where that is known."""


@contextmanager
def contained() -> Iterator[list[str]]:
    """Run a plugin's import and hooks; whatever it raises, `SystemExit` too, becomes a `PluginError`.

    A plugin that hangs or ends the process cannot be stopped from inside: `probe` looks from outside.

    Yields:
        remarks on what it printed, which does not reach stdout; filled when the block ends.
    """
    printed = io.StringIO()
    remarks: list[str] = []
    try:
        with redirect_stdout(printed):  # stdout is for answers that programs read
            yield remarks
    except (PluginError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise PluginError(_cause(error)) from error
    finally:
        remarks += [f"it prints {line!r} while being imported" for line in printed.getvalue().split("\n")[:1] if line]


def load_file(file: Path) -> ModuleType:
    """Import one file as a module of its own name space, anew each time."""
    name = _OF_FILES + file.stem
    spec = spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise PluginError(f"{file} is not a Python module")
    module = module_from_spec(spec)
    sys.modules[name] = module  # as dataclasses and pickles of its classes need it
    spec.loader.exec_module(module)
    return module


class LoadedFiles:
    """The single-file plugins of this process. Unpickling it, as in a worker that was started anew, imports them.

    A pickle is read in order: what stands behind it may be of their classes.
    """

    def __reduce__(self) -> tuple[Callable[..., None], tuple[tuple[str, ...]]]:
        files = [module.__file__ for name, module in sys.modules.items() if name.startswith(_OF_FILES)]
        return _import_files, (tuple(file for file in files if file is not None),)


def _import_files(files: tuple[str, ...]) -> None:
    for file in map(Path, files):
        if _OF_FILES + file.stem not in sys.modules:
            load_file(file)


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


def is_machinery(filename: str) -> bool:
    """Whether a frame of a trace lies in what imports a plugin, not in the plugin."""
    machinery = ("<frozen", str(Path(__file__).parents[1]))
    return filename.startswith(machinery) or "importlib" in filename or "pluggy" in filename


def _cause(error: BaseException) -> str:
    text = " ".join(str(error).split()) or "no message"
    if isinstance(error, SyntaxError):
        return f"SyntaxError: {error.msg} ({error.filename}:{error.lineno})"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not is_machinery(frame.filename)]
    place = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {text}{place}"
