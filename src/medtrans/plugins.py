"""Owns plugins: finding them, importing those that are named, containing the broken ones, resolving names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType

import pluggy

from medtrans import hookspecs
from medtrans.components import Component
from medtrans.containment import PluginError, contained, load_file
from medtrans.errors import ConfigError, MedtransError, SetupError
from medtrans.faults import did_you_mean
from medtrans.hookspecs import KINDS, PLUGIN_API

__all__ = ["BUILTIN", "Found", "Origin", "Plugin", "Registry", "discover"]

BUILTIN = "builtin"
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


@dataclass(frozen=True)
class Plugin:
    """A loaded plugin: its components by kind and name."""

    origin: Origin
    components: Mapping[tuple[str, str], Component]


@dataclass(frozen=True)
class Found:
    """A component under its full name."""

    kind: str
    name: str
    component: Component
    origin: Origin


@dataclass(frozen=True)
class _Source:
    origin: Origin
    entry_point: EntryPoint | None

    def load(self) -> ModuleType:
        if self.entry_point is None:
            return load_file(Path(self.origin.location))
        module: ModuleType = self.entry_point.load()
        return module


def discover() -> tuple[Origin, ...]:
    """The plugins that installed packages announce, none of them imported."""
    return tuple(source.origin for source in _announced())


def _announced() -> list[_Source]:
    sources = []
    for entry_point in entry_points(group="medtrans"):
        distribution = entry_point.dist
        name = distribution.name if distribution else "unknown"
        version = distribution.version if distribution else "unknown"
        sources.append(_Source(Origin(entry_point.name, name, version, entry_point.value), entry_point))
    return sorted(sources, key=lambda source: (source.origin.prefix, source.origin.distribution or ""))


def _normalised(distribution: str | None) -> str:
    return re.sub(r"[-_.]+", "-", distribution or "").lower()


@dataclass
class Registry:
    """The components at hand: the built-ins at once, others when a name asks for their plugin.

    Args:
        files: single-file plugins, each under its file's stem.

    Raises:
        ConfigError: a file does not exist, or its stem is taken.
        SetupError: the package is not installed, so that its built-ins are not announced.
    """

    files: Sequence[Path] = ()
    _plugins: dict[Origin, Plugin] = field(default_factory=dict, init=False)
    _sources: list[_Source] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self._manager = pluggy.PluginManager("medtrans")
        self._manager.add_hookspecs(hookspecs)
        announced = _announced()
        self._sources = [source for source in announced if not _squats(source.origin)]
        taken = {source.origin.prefix for source in self._sources}
        for file in self.files:
            self._sources.append(_file_source(file, taken))
            taken.add(file.stem)
        if BUILTIN not in taken:
            raise SetupError(
                "medtrans is not installed, so its built-in parts are unknown: run 'pip install -e .' first"
            )
        self.plugin(BUILTIN)

    def plugin(self, prefix: str) -> Plugin:
        """The plugin of that prefix, imported now if it was not.

        Raises:
            ConfigError: no plugin, or two, have the prefix.
            SetupError: it cannot be loaded; says why, where, and how to remove it.
        """
        source = self._source(prefix)
        if source.origin not in self._plugins:
            self._plugins[source.origin] = self._load(source)
        return self._plugins[source.origin]

    def find(self, kind: str, name: str) -> Found:
        """The component that a config's name means.

        Raises:
            ConfigError: no such component; suggests the nearest.
            SetupError: its plugin is broken.
        """
        prefix, colon, bare = name.rpartition(":")
        plugin = self.plugin(prefix if colon else BUILTIN)
        component = plugin.components.get((kind, bare))
        if component is None:
            raise ConfigError(f"no {kind} named '{name}'{did_you_mean(name, self.names(kind))}")
        return Found(kind, f"{prefix or BUILTIN}:{bare}", component, plugin.origin)

    def names(self, kind: str) -> list[str]:
        """The names of a kind that loaded plugins offer, as a config writes them."""
        return [
            name if plugin.origin.prefix == BUILTIN else f"{plugin.origin.prefix}:{name}"
            for plugin in self._plugins.values()
            for other, name in plugin.components
            if other == kind
        ]

    def others(self) -> tuple[Origin, ...]:
        """The plugins that are announced beside the built-in one, loaded or not."""
        return tuple(source.origin for source in self._sources if source.origin.prefix != BUILTIN)

    def _source(self, prefix: str) -> _Source:
        matching = [source for source in self._sources if source.origin.prefix == prefix]
        if not matching:
            wanted = _normalised(prefix)
            matching = [source for source in self._sources if _normalised(source.origin.distribution) == wanted]
        if len(matching) == 1:
            return matching[0]
        if matching:
            listed = ", ".join(f"{source.origin.distribution}:..." for source in matching)
            raise ConfigError(f"several plugins are called '{prefix}': write one of {listed} or uninstall one")
        known = [source.origin.prefix for source in self._sources]
        raise ConfigError(
            f"no plugin named '{prefix}' is installed{did_you_mean(prefix, known)} (installed: {', '.join(known)})"
        )

    def _load(self, source: _Source) -> Plugin:
        origin = source.origin
        try:
            with contained(origin.location.partition(":")[0]):
                module = source.load()
                components = self._register(origin, module)
        except PluginError as fault:
            self._unregister(origin)
            raise SetupError(
                f"{origin} could not be loaded: {fault}. Mend it, or remove it: {origin.remedy}"
            ) from fault
        return Plugin(origin, components)

    def _register(self, origin: Origin, module: ModuleType) -> dict[tuple[str, str], Component]:
        stated = str(getattr(module, "PLUGIN_API", PLUGIN_API))
        if stated.partition(".")[0] != PLUGIN_API.partition(".")[0]:
            raise PluginError(f"it is written for plugin interface {stated}, this medtrans has {PLUGIN_API}")
        self._manager.register(module, name=_key(origin))
        self._manager.check_pending()
        found: dict[tuple[str, str], Component] = {}
        for kind, hook in KINDS.items():
            for implementation in getattr(self._manager.hook, hook).get_hookimpls():
                if implementation.plugin_name == _key(origin):
                    found |= _components(kind, hook, implementation.function())
        return found

    def _unregister(self, origin: Origin) -> None:
        if self._manager.has_plugin(_key(origin)):
            self._manager.unregister(name=_key(origin))


def _key(origin: Origin) -> str:
    return f"{origin.distribution or 'file'}:{origin.prefix}"


def _squats(origin: Origin) -> bool:
    """Whether a package other than ours announces the built-ins' name."""
    return origin.prefix == BUILTIN and _normalised(origin.distribution) != _OWN_DISTRIBUTION


def _file_source(file: Path, taken: Iterable[str]) -> _Source:
    if not file.is_file():
        raise ConfigError(f"--plugin {file}: no such file")
    if file.suffix != ".py" or not file.stem.isidentifier():
        raise ConfigError(f"--plugin {file}: expected a Python file whose name is an identifier, such as mine.py")
    if file.stem in taken:
        raise ConfigError(f"--plugin {file}: a plugin named '{file.stem}' is there already; rename the file")
    return _Source(Origin(file.stem, None, "file", str(file.resolve())), None)


def _components(kind: str, hook: str, offered: object) -> dict[tuple[str, str], Component]:
    if not isinstance(offered, list | tuple):
        raise PluginError(f"{hook} must return a list of Component, found {type(offered).__name__}")
    found: dict[tuple[str, str], Component] = {}
    for component in offered:
        if not isinstance(component, Component):
            raise PluginError(f"{hook} must return a list of Component, found an item of {type(component).__name__}")
        if (kind, component.name) in found:
            raise PluginError(f"{hook} offers '{component.name}' twice")
        found[kind, component.name] = component
    return found


def explain(error: MedtransError) -> str:
    """The first fault of an error, for a table."""
    return error.faults[0] if error.faults else str(error)
