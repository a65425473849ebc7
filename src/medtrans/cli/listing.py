"""The answers of `medtrans show`, `medtrans plugins` and `medtrans --version`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from medtrans._version import __version__
from medtrans.config.layers import shipped_configs
from medtrans.errors import ConfigError
from medtrans.plugins.describe import component_yaml
from medtrans.plugins.discovery import discover
from medtrans.plugins.hookspecs import KINDS, PLUGIN_API
from medtrans.plugins.options import summary_of
from medtrans.plugins.probe import Probe, offered_by, probe_all, run_in_child
from medtrans.plugins.registry import BUILTIN, Registry
from medtrans.utils.messages import did_you_mean

__all__ = ["plugins", "shown", "versions"]


_SHADOWED = "it takes the prefix of a plugin that comes with medtrans, so that it is never used"


def shown(kind: str | None, name: str | None, files: Sequence[Path]) -> str:
    """What `medtrans show [KIND [NAME]]` prints.

    Raises:
        ConfigError: no such kind, component or config.
    """
    if kind is None:
        return "\n".join(_of_kind(one, files) for one in KINDS)
    if kind in ("config", "configs"):
        return _config(name)
    singular = next((one for one in KINDS if kind in (one, KINDS[one].removeprefix("medtrans_"))), None)
    if singular is None:
        raise ConfigError(
            f"no kind '{kind}'{did_you_mean(kind, [*KINDS, 'config'])} (known: {', '.join(KINDS)}, config)"
        )
    return _of_kind(singular, files) if name is None else _component(singular, name, files)


def plugins(*, as_json: bool, limit_s: float | None = None) -> tuple[str, int]:
    """What `medtrans plugins` prints, and how many plugins are broken.

    Args:
        as_json: for programs.
        limit_s: seconds each plugin has to be imported; 20 if not given.
    """
    registry = Registry()
    builtin = registry.plugin(BUILTIN)
    found = [Probe(builtin.origin, **offered_by(builtin))]
    found += [_with_clashes(one, registry) for one in probe_all(registry.others(), limit_s)]
    found += [Probe(origin, problem=_SHADOWED) for origin in registry.shadowed()]
    broken = sum(bool(one.problem) for one in found)
    if as_json:
        listed = [asdict(one) | {"remedy": one.origin.remedy if one.problem else ""} for one in found]
        return json.dumps(listed, indent=2) + "\n", broken
    return "".join(_plugin_text(one) for one in found), broken


def versions() -> str:
    """What `medtrans --version` prints: the core, the plugin interface, a line a plugin."""
    lines = [f"medtrans {__version__}", f"plugin interface {PLUGIN_API}"]
    lines += [f"{origin.prefix}: {origin.distribution} {origin.version}" for origin in discover()]
    return "\n".join(lines) + "\n"


def _with_clashes(found: Probe, registry: Registry) -> Probe:
    """A plugin that shares its prefix cannot be selected by it."""
    clashing = registry.clashes(found.origin)
    if not clashing or found.origin.own:
        return found
    others = ", ".join(f"{one.distribution} {one.version}" for one in clashing)
    problem = f"{others} has the same prefix; write {found.origin.full_prefix}:... in configs, or uninstall one"
    return replace(found, problem=f"{found.problem}; {problem}" if found.problem else problem)


def _plugin_text(found: Probe) -> str:
    origin = found.origin
    lines = [f"{origin.prefix}: {origin.distribution} {origin.version} ({origin.location})"]
    if found.problem:
        remedy = "" if origin.remedy in found.problem else f"; remove it: {origin.remedy}"
        lines.append(f"  broken: {found.problem}{remedy}")
    if found.note:
        lines.append(f"  note: {found.note}; to remove it: {origin.remedy}")
    lines += [f"  {kind}: {', '.join(names)}" for kind, names in found.components.items() if names]
    return "\n".join(lines) + "\n"


def _third_parties(files: Sequence[Path]) -> list[Probe]:
    return probe_all(Registry(tuple(files)).others())


def _of_kind(kind: str, files: Sequence[Path]) -> str:
    components = Registry().plugin(BUILTIN).components
    lines = [f"{KINDS[kind].removeprefix('medtrans_')}:"]
    for (other, name), component in components.items():
        if other == kind:
            lines.append(f"  {name:<18} {summary_of(component)}")
    for found in _third_parties(files):
        lines += [f"  {found.origin.prefix}:{name}" for name in found.components.get(kind, [])]
    return "\n".join(lines) + "\n"


def _component(kind: str, name: str, files: Sequence[Path]) -> str:
    if name.partition(":")[0] in (name, BUILTIN):
        try:
            return component_yaml(kind, name, Registry().find(kind, name).component)
        except ConfigError as error:
            others = [
                f"{found.origin.prefix}:{one}"
                for found in _third_parties(files)
                for one in found.components.get(kind, [])
            ]
            raise ConfigError(*(f"{fault}{did_you_mean(name, others)}" for fault in error.faults)) from error
    text, problem = run_in_child("yaml", f"{kind}/{name}", files)
    if problem or text.startswith("# no "):
        raise ConfigError(f"{name}: {problem or text.removeprefix('# ')}")
    return text


def _config(name: str | None) -> str:
    if name is None:
        return "\n".join(["configs:", *(f"  {one}" for one in shipped_configs())]) + "\n"
    configs = shipped_configs(layers=True)
    if name not in configs:
        raise ConfigError(f"no config '{name}'{did_you_mean(name, configs)} (shipped: {', '.join(shipped_configs())})")
    return configs[name].read_text(encoding="utf-8")
