"""The trial of a whole plugin: `medtrans plugins test NAME`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from medtrans.errors import ConfigError
from medtrans.plugins.hookspecs import Component
from medtrans.plugins.options import options_of
from medtrans.plugins.registry import Registry
from medtrans.testing.kits import verdicts
from medtrans.testing.rules import Verdict
from medtrans.utils.messages import did_you_mean

__all__ = ["ComponentVerdicts", "plugin_text", "plugin_verdicts"]


@dataclass(frozen=True)
class ComponentVerdicts:
    """What trying one component gave.

    Args:
        kind: of the component.
        name: as a config writes it.
        verdicts: one a rule; none where it was not tried.
        reason: why it was not tried.
    """

    kind: str
    name: str
    verdicts: tuple[Verdict, ...] = ()
    reason: str = ""


def plugin_verdicts(name: str, files: Sequence[Path] = ()) -> list[ComponentVerdicts]:
    """Try every component of a plugin, each under its own `trial` settings.

    Args:
        name: the plugin's, such as "swin"; "swin:small" tries one component alone.
        files: single-file plugins to have at hand.

    Raises:
        ConfigError: there is no such plugin or component.
        SetupError: the plugin is broken.
    """
    prefix, _, bare = name.partition(":")
    registry = Registry(tuple(files))
    offered = registry.plugin(prefix).components
    chosen = {key: one for key, one in offered.items() if bare in ("", key[1])}
    if not chosen:
        known = [other for _, other in offered]
        raise ConfigError(
            f"the plugin '{prefix}' offers {f'no {bare!r}' if bare else 'nothing'}{did_you_mean(bare, known)}"
        )
    return [_tried(kind, f"{prefix}:{own}", registry.find(kind, f"{prefix}:{own}").component) for kind, own in chosen]


def plugin_text(tried: Sequence[ComponentVerdicts], *, as_json: bool) -> tuple[str, int]:
    """What is printed, and how many rules are broken."""
    outcomes = Counter(verdict.outcome for one in tried for verdict in one.verdicts)
    if as_json:
        return json.dumps([asdict(one) for one in tried], indent=2) + "\n", outcomes["broken"]
    lines = []
    for one in tried:
        lines.append(f"{one.kind} {one.name}")
        lines += [f"  {verdict}" for verdict in one.verdicts]
        lines += [f"  not tried  {one.reason}"] if one.reason else []
    counted = ", ".join(f"{outcomes[outcome]} {outcome}" for outcome in ("kept", "broken", "not tried"))
    lines.append(f"{len(tried)} component{'s' if len(tried) != 1 else ''}; rules: {counted}")
    return "\n".join(lines) + "\n", outcomes["broken"]


def _tried(kind: str, name: str, component: Component) -> ComponentVerdicts:
    given = component.trial.get("options", {})
    missing = [one.name for one in options_of(component, kind) if one.required and one.name not in given]
    if missing:
        reason = (
            f"needs {', '.join(missing)}: test it with medtrans.testing.check_{kind}, or give the component a `trial`"
        )
        return ComponentVerdicts(kind, name, reason=reason)
    return ComponentVerdicts(kind, name, verdicts(kind, component))
