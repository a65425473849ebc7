"""Owns the answers of `medtrans show`, `medtrans plugins` and `medtrans --version`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from medtrans._version import __version__
from medtrans.errors import ConfigError
from medtrans.faults import did_you_mean
from medtrans.hookspecs import KINDS, PLUGIN_API
from medtrans.layers import shipped_configs
from medtrans.options import summary_of
from medtrans.plugins import BUILTIN, Registry, discover
from medtrans.probing import Probe, probe, run_in_child
from medtrans.show import component_yaml

__all__ = ["plugins", "shown", "versions"]


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


def plugins(*, as_json: bool) -> tuple[str, int]:
    """What `medtrans plugins` prints, and how many plugins are broken."""
    probes = _third_parties(())
    broken = sum(bool(found.problem) for found in probes)
    builtin = Registry().plugin(BUILTIN)
    own = Probe(builtin.origin, {kind: [name for other, name in builtin.components if other == kind] for kind in KINDS})
    if as_json:
        return json.dumps([asdict(found) for found in (own, *probes)], indent=2) + "\n", broken
    return "".join(_plugin_text(found) for found in (own, *probes)), broken


def versions() -> str:
    """What `medtrans --version` prints: the core, the plugin interface, a line a plugin."""
    lines = [f"medtrans {__version__}", f"plugin interface {PLUGIN_API}"]
    lines += [f"{origin.prefix}: {origin.distribution} {origin.version}" for origin in discover()]
    return "\n".join(lines) + "\n"


def _plugin_text(found: Probe) -> str:
    origin = found.origin
    lines = [f"{origin.prefix}: {origin.distribution} {origin.version} ({origin.location})"]
    if found.problem:
        lines.append(f"  broken: {found.problem}; remove it: {origin.remedy}")
    lines += [f"  {kind}: {', '.join(names)}" for kind, names in found.components.items() if names]
    return "\n".join(lines) + "\n"


def _third_parties(files: Sequence[Path]) -> list[Probe]:
    return [probe(origin) for origin in Registry(tuple(files)).others()]


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
    configs = shipped_configs()
    if name is None:
        return "\n".join(["configs:", *(f"  {one}" for one in configs)]) + "\n"
    if name not in configs:
        raise ConfigError(f"no config '{name}'{did_you_mean(name, configs)} (shipped: {', '.join(configs)})")
    return configs[name].read_text(encoding="utf-8")
