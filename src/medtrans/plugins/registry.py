"""Plugins: finding them, importing those that are named, containing the broken ones, resolving names."""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Timer
from types import ModuleType

import pluggy

from medtrans.errors import ConfigError, SetupError
from medtrans.plugins import hookspecs
from medtrans.plugins.discovery import Origin, PluginError, contained, discover, normalised, place_of, place_of_name
from medtrans.plugins.hookspecs import KINDS, PLUGIN_API, Component, LoadedComponent
from medtrans.utils.messages import did_you_mean

_VERSION = re.compile(r"(\d+)\.(\d+)")


def stated_interface(module: ModuleType) -> str:
    """The version of the interface that a plugin says it was written for; the present one where it says nothing."""
    return str(getattr(module, "PLUGIN_API", PLUGIN_API))


def compatible(stated: str) -> str:
    """Nothing for this interface or an older minor one; a note for a newer minor one; else a PluginError."""
    found, own = _VERSION.fullmatch(stated), _VERSION.fullmatch(PLUGIN_API)
    if found is None or own is None:
        raise PluginError(f'PLUGIN_API is "{stated}", expected "major.minor" such as "{PLUGIN_API}"')
    if found[1] != own[1]:
        which = "a newer medtrans" if int(found[1]) > int(own[1]) else "a newer release of the plugin"
        raise PluginError(
            f"it is written for plugin interface {stated}, this medtrans has {PLUGIN_API}; install {which}"
        )
    if int(found[2]) > int(own[2]):
        return (
            f"it is written for plugin interface {stated}, this medtrans has {PLUGIN_API}: what {stated} added is not "
            "there; update medtrans if something is missing"
        )
    return ""


BUILTIN = "builtin"
OWN_PACKAGES = {name: f"medtrans-{name}" for name in ("eagan", "example", "monai", "ptnet3d", "resvit")}
"""The packages of this project by the prefix of their plugin; installed or not."""

_PATIENCE_S = 10.0  # after which a run says what it is waiting for

_log = logging.getLogger("medtrans")


@dataclass(frozen=True)
class Plugin:
    """A loaded plugin.

    Args:
        origin: where it comes from.
        components: by kind and name.
        interface: the version of the plugin interface it was written for.
        note: what to know of it although it works; "" for nothing.
    """

    origin: Origin
    components: Mapping[tuple[str, str], Component]
    interface: str
    note: str = ""


@dataclass(frozen=True)
class Found:
    """A component under its full name."""

    kind: str
    name: str
    component: Component
    origin: Origin


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
    _origins: list[Origin] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self._manager = pluggy.PluginManager("medtrans")
        self._manager.add_hookspecs(hookspecs)
        found = discover()
        own = {origin.prefix for origin in found if origin.own}
        self._origins = [origin for origin in found if origin.own or origin.prefix not in own]
        taken = {origin.prefix for origin in self._origins}
        for file in self.files:
            self._origins.append(_file_origin(file, taken))
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
        origin = self.origin(prefix)
        if origin not in self._plugins:
            self._plugins[origin] = self._load(origin)
        return self._plugins[origin]

    def find(self, kind: str, name: str) -> Found:
        """The component that a config's name means.

        Raises:
            ConfigError: no such component; suggests the nearest.
            SetupError: its plugin is broken, or what it names cannot be imported.
        """
        prefix, colon, bare = name.rpartition(":")
        plugin = self.plugin(prefix if colon else BUILTIN)
        component = plugin.components.get((kind, bare))
        if component is None:
            raise ConfigError(f"no {kind} named '{name}'{did_you_mean(name, self.names(kind))}")
        if not plugin.origin.own:
            self._import_factory(plugin.origin, kind, component)
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
        return tuple(origin for origin in self._origins if origin.prefix != BUILTIN)

    def clashes(self, origin: Origin) -> tuple[Origin, ...]:
        """The other plugins of the same prefix."""
        return tuple(one for one in self.others() if one.prefix == origin.prefix and one != origin)

    def shadowed(self) -> tuple[Origin, ...]:
        """Plugins that took the prefix of one that comes with medtrans; they are never used."""
        return tuple(origin for origin in discover() if origin not in self._origins)

    def origin(self, prefix: str) -> Origin:
        """The announced plugin that a prefix or a package's name means, imported or not.

        Raises:
            ConfigError: none, or several.
        """
        matching = [origin for origin in self._origins if origin.prefix == prefix]
        if not matching:
            wanted = normalised(prefix)
            matching = [origin for origin in self._origins if normalised(origin.distribution) == wanted]
        if len(matching) == 1:
            return matching[0]
        if matching:
            prefixes = {origin.prefix for origin in matching}
            names = sorted(prefixes) if len(prefixes) > 1 else [str(one.distribution) for one in matching]
            listed = ", ".join(f"{name}:..." for name in names)
            raise ConfigError(f"several plugins are called '{prefix}': write one of {listed} or uninstall one")
        known = [origin.prefix for origin in self._origins]
        raise ConfigError(
            f"no plugin named '{prefix}' is installed{did_you_mean(prefix, known)} (installed: {', '.join(known)})"
        )

    def _load(self, origin: Origin) -> Plugin:
        try:
            with _warn_if_slow(origin), contained() as remarks:
                module = origin.load()
                plugin = self._register(origin, module)
        except PluginError as fault:
            if self._manager.has_plugin(_key(origin)):
                self._manager.unregister(name=_key(origin))
            raise SetupError(
                f"{origin} could not be loaded: {fault}. Mend it, or remove it: {origin.remedy}"
            ) from fault
        plugin = replace(plugin, note="; ".join(filter(None, (plugin.note, *remarks))))
        if plugin.note:
            _log.warning("%s: %s", origin, plugin.note)
        return plugin

    def _register(self, origin: Origin, module: ModuleType) -> Plugin:
        interface = stated_interface(module)
        try:
            note = compatible(interface)
        except PluginError as fault:
            raise PluginError(f"{fault}{place_of_name(module, 'PLUGIN_API')}") from fault
        for name, function in vars(module).items():
            if callable(function) and hasattr(function, "medtrans_impl"):  # pluggy's mark of a hook
                _check_hook(name, function)
        self._manager.register(module, name=_key(origin))
        self._manager.check_pending()
        found: dict[tuple[str, str], Component] = {}
        for kind, hook in KINDS.items():
            for implementation in getattr(self._manager.hook, hook).get_hookimpls():
                if implementation.plugin_name == _key(origin):
                    found |= _components(kind, hook, implementation.function)
        return Plugin(origin, found, interface, note)

    def _import_factory(self, origin: Origin, kind: str, component: Component) -> None:
        """Import what a component names, with the same care as its plugin."""
        try:
            with _warn_if_slow(origin), contained():
                component.load()
        except PluginError as fault:
            raise SetupError(
                f"{kind} '{component.name}' of {origin} cannot be imported: {fault}. Install what it needs, mend "
                f"it, or remove it: {origin.remedy}"
            ) from fault


@contextmanager
def _warn_if_slow(origin: Origin) -> Iterator[None]:
    # An import that hangs cannot be stopped from inside: one can only say what is waited for.
    waiting = Timer(
        _PATIENCE_S, _log.warning, ("still importing %s; if it hangs, stop and remove it: %s", origin, origin.remedy)
    )
    waiting.daemon = True
    if not origin.own:
        waiting.start()
    try:
        yield
    finally:
        waiting.cancel()


def _check_hook(name: str, function: Callable[..., object]) -> None:
    hooks = list(KINDS.values())
    if name not in hooks:
        raise PluginError(f"there is no hook {name}{did_you_mean(name, hooks)}{place_of(function)}")
    if given := list(inspect.signature(function).parameters):
        raise PluginError(f"{name} takes no argument, found {', '.join(given)}{place_of(function)}")


def _key(origin: Origin) -> str:
    return f"{origin.distribution or 'file'}:{origin.prefix}"


def _file_origin(file: Path, taken: Iterable[str]) -> Origin:
    if not file.is_file():
        raise ConfigError(f"--plugin {file}: no such file")
    if file.suffix != ".py" or not file.stem.isidentifier():
        raise ConfigError(f"--plugin {file}: expected a Python file whose name is an identifier, such as mine.py")
    if file.stem in taken:
        raise ConfigError(f"--plugin {file}: a plugin named '{file.stem}' is there already; rename the file")
    return Origin(file.stem, None, "file", str(file.resolve()))


def _components(kind: str, hook: str, function: Callable[[], object]) -> dict[tuple[str, str], Component]:
    offered, place = function(), place_of(function)
    if not isinstance(offered, list | tuple):
        raise PluginError(f"{hook} must return a list of Component, found {type(offered).__name__}{place}")
    found: dict[tuple[str, str], Component] = {}
    for component in offered:
        if not isinstance(component, Component):
            raise PluginError(
                f"{hook} must return a list of Component, found an item of {type(component).__name__}{place}"
            )
        if (kind, component.name) in found:
            raise PluginError(f"{hook} offers '{component.name}' twice{place}")
        found[kind, component.name] = component
    return found


def component(kind: str, name: str) -> LoadedComponent:
    """A component whose factory is a plain callable.

    Args:
        kind: in the singular: generator, discriminator, loss, dataset, metric, method, transform or callback.
        name: as a config writes it.

    Raises:
        ConfigError: no such component.
        SetupError: its plugin is broken.

    Example:
        >>> network = component("generator", "mdaunet").factory(1, 1, preset="tiny")
        >>> type(network).__name__
        'MDAUNet'
    """
    return Registry().find(kind, name).component.resolved()
