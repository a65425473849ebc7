"""How components are shown: lists by kind, and one component's options as ready-to-paste YAML."""

from __future__ import annotations

import textwrap
import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml

from medtrans.plugins.hookspecs import Component
from medtrans.plugins.interfaces import Augmentation
from medtrans.plugins.options import Option, facts_of, options_of, summary_of

_PLACE = {
    "generator": ("generator", False),
    "discriminator": ("discriminator", False),
    "dataset": ("dataset", False),
    "method": ("method", False),
    "loss": ("losses", True),
    "metric": ("metrics", True),
    "callback": ("callbacks", True),
    "transform": ("preprocess.intensity.MODALITY", False),
}


def component_yaml(kind: str, name: str, component: Component) -> str:
    """A component's slot with all options at their defaults, each with its type and meaning as a comment."""
    place, keyed = ("augment", True) if _augments(component) else _PLACE[kind]
    *parents, last = place.split(".")
    lines = [f"# {line}" for line in textwrap.wrap(summary_of(component), 110)]
    if facts := facts_of(component, kind):
        lines.append(f"# told by medtrans: {', '.join(facts)}")
    depth = 0
    for parent in [*parents, last, *([name] if keyed else [])]:
        lines.append(f"{'  ' * depth}{parent if ':' not in parent else repr(parent)}:")
        depth += 1
    indent = "  " * depth
    lines.append(f"{indent}name: {name}")
    if kind == "loss":
        lines.append(f"{indent}weight: 1.0  # factor of the generator's term; a number or a ramp")
    options = options_of(component, kind)
    lines.append(f"{indent}options:" if options else f"{indent}options: {{}}")
    for option in options:
        lines += _option_lines(option, indent + "  ")
    return "\n".join(lines) + "\n"


def _augments(component: Component) -> bool:
    factory = component.load()
    return isinstance(factory, type) and issubclass(factory, Augmentation)


def _option_lines(option: Option, indent: str) -> list[str]:
    comment = f"{type_text(option.annotation)}{'; required' if option.required else ''}"
    if option.doc:
        comment += f": {option.doc}"
    wrapped = [f"{indent}# {line}" for line in textwrap.wrap(comment, 120 - len(indent) - 2)]
    value = "???" if option.required else _yaml_value(option.default)
    return [*wrapped, f"{indent}{'# ' if option.required else ''}{option.name}: {value}"]


def _yaml_value(value: Any) -> str:
    return yaml.safe_dump(_plain(value), default_flow_style=True, width=1000).removesuffix("\n...\n").strip()


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list | set | frozenset):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def type_text(annotation: Any) -> str:
    """A type as a user reads it: `Literal["a", "b"] | None` becomes `a or b or null`."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        bounds = [text for constraint in arguments[1:] for text in _bounds(constraint)]
        return " ".join([type_text(arguments[0]), *bounds])
    if origin is Literal:
        return " or ".join(str(value) for value in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(type_text(argument) for argument in arguments)
    if origin is tuple:
        if arguments[-1] is Ellipsis:
            return f"list of {type_text(arguments[0])}"
        return f"list of {len(arguments)}: {', '.join(type_text(argument) for argument in arguments)}"
    if origin is dict:
        return f"mapping of {type_text(arguments[0])} to {type_text(arguments[1])}"
    if origin is not None and arguments:
        return f"{getattr(origin, '__name__', origin)} of {', '.join(type_text(argument) for argument in arguments)}"
    plain = {type(None): "null", str: "text", int: "whole number", float: "number", bool: "true or false", Path: "path"}
    return plain.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _bounds(constraint: Any) -> list[str]:
    """`>= 1` and the like, of pydantic's Field and of annotated-types alike."""
    signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
    found = [
        f"{sign} {getattr(constraint, name)}"
        for name, sign in signs.items()
        if getattr(constraint, name, None) is not None
    ]
    for inner in getattr(constraint, "metadata", ()):
        found += _bounds(inner)
    return found
