"""What installed packages announce in the entry-point group: plugins by name, none of them imported."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType

from medtrans.plugins.isolation import load_file

__all__ = ["GROUP", "Origin", "Source", "announced", "discover", "normalised"]


GROUP = "medtrans"
_OWN_DISTRIBUTION = "medtrans"


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


@dataclass(frozen=True)
class Source:
    """An origin with the way to load it."""

    origin: Origin
    entry_point: EntryPoint | None

    def load(self) -> ModuleType:
        """The plugin's module, imported."""
        if self.entry_point is None:
            return load_file(Path(self.origin.location))
        module: ModuleType = self.entry_point.load()
        return module


def discover() -> tuple[Origin, ...]:
    """The plugins that installed packages announce, none of them imported."""
    return tuple(source.origin for source in announced())


def announced() -> list[Source]:
    """The plugins that installed packages announce, sorted."""
    sources = [
        Source(Origin(point.name, point.dist.name, point.dist.version, point.value), point)
        for point in entry_points(group=GROUP)
        if point.dist is not None
    ]
    return sorted(sources, key=lambda source: (source.origin.prefix, source.origin.distribution or ""))


def normalised(distribution: str | None) -> str:
    """A package's name as registries compare it."""
    return re.sub(r"[-_.]+", "-", distribution or "").lower()
