"""The page of the components that come with medtrans."""

from __future__ import annotations

import inspect

import docstring_parser

from medtrans.plugins.describe import component_yaml
from medtrans.plugins.discovery import discover
from medtrans.plugins.hookspecs import KINDS, Component
from medtrans.plugins.optimizers import OPTIMIZERS, SCHEDULES
from medtrans.plugins.options import options_of, summary_of
from medtrans.plugins.registry import BUILTIN, Registry

from .markdown import option_row, table

COMPONENTS_INTRO = """\
# Components

What medtrans brings, by kind. Each block is what `medtrans show KIND NAME` prints: the component's slot with all
options at their defaults, ready to paste. `medtrans show` also lists what installed plugins offer.
"""


def components_page() -> str:
    """Every component that comes with medtrans, with its options ready to paste."""
    components = own_components()
    parts = [COMPONENTS_INTRO]
    for kind, hook in KINDS.items():
        parts.append(f"## {hook.removeprefix('medtrans_').capitalize()}\n")
        parts += [component_part(kind, name, one) for (other, name), one in components.items() if other == kind]
    for title, own in {"Optimizers": OPTIMIZERS, "Schedules": SCHEDULES}.items():
        kind = title.lower().removesuffix("s")
        parts.append(f"## {title}\n\nFor `train.{kind}`; these are not extended by plugins.\n")
        parts += [own_part(kind, name, factory) for name, factory in own.items()]
    return "\n".join(parts)


def own_components() -> dict[tuple[str, str], Component]:
    """By kind and name as a config writes it; built-ins first."""
    registry = Registry()
    found = dict(registry.plugin(BUILTIN).components)
    for origin in discover():
        if origin.distribution == "medtrans" and origin.prefix != BUILTIN:
            offered = registry.plugin(origin.prefix).components
            found |= {(kind, f"{origin.prefix}:{name}"): one for (kind, name), one in offered.items()}
    return found


def component_part(kind: str, name: str, component: Component) -> str:
    """A component's heading, explanation and YAML."""
    text = explanation(component)
    return f"### {name}\n\n{text}\n\n```yaml\n{component_yaml(kind, name, component)}```\n"


def own_part(kind: str, name: str, factory: type) -> str:
    """An optimiser's or a schedule's heading, explanation and options."""
    component = Component(name, factory)
    rows = [option_row(option) for option in options_of(component, kind)]
    options = table(("option", "type", "default", "meaning"), rows) if rows else "No options.\n"
    return f"### {name}\n\n{explanation(component)}\n\n{options}"


def explanation(component: Component) -> str:
    """What the docstring says before its sections."""
    parsed = docstring_parser.parse(inspect.getdoc(component.load()) or "")
    return "\n\n".join(part for part in (summary_of(component), parsed.long_description) if part)
