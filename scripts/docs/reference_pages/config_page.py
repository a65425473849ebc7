"""The page of every key a config may have."""

from __future__ import annotations

import inspect
import re
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from medtrans.config.schema import LossSlot, PerRole, RunConfig, Slot
from medtrans.plugins.describe import type_text
from medtrans.plugins.hookspecs import Component
from medtrans.plugins.interfaces import Ramp
from medtrans.plugins.options import options_of

from .markdown import code, flow, option_row, plain, table

COLUMNS = ("key", "type", "default", "meaning")
EXTENDS = ("`extends`", "path or list of path", "`[]`", "Files merged before this one, relative to it.")
"""The one key that is used up while files are merged."""
TYPE_WORDS = {
    "LossSlot": "slot with weight",
    "Slot": "slot",
    "Ramp": "ramp",
    "PerRole": "{generator: slot, discriminator: slot}",
    "Any": "anything",
}
"""What to write for the names of our own types."""
CONFIG_INTRO = """\
# Config reference

Every key a config may have, with its type, its default and its meaning. Keys are written with dots, as an override on
the command line writes them: `train.steps=10`. How files, shipped configs and overrides are merged is told in
[How a run works](../concepts/how-a-run-works.md#the-config).

A *slot* is `{name: ..., options: {...}}`; [Components](components.md) lists what may fill it. In a mapping of slots
(`losses`, `metrics`, `callbacks`, `augment`) the name defaults to the key.
"""


def config_page() -> str:
    """Every key of a config: its type, default and meaning."""
    fields = RunConfig.model_fields
    top = [config_row(name, info) for name, info in fields.items() if not models_in(info)]
    parts = [
        CONFIG_INTRO,
        "## The run\n",
        table(COLUMNS, [EXTENDS, *top]),
    ]
    for name, info in fields.items():
        if models := models_in(info):
            parts += [f"## `{name}`\n", f"{info.description}\n", *(model_part(name, model) for model in models)]
    return "\n".join([*parts, slot_part(), ramp_part()])


def model_part(prefix: str, model: type[BaseModel]) -> str:
    """The table of one section of the config; the ways to split each have a heading of their own."""
    by = model.model_fields.get("by")
    choice = get_args(by.annotation)[0] if by else None
    heading = f"### `{prefix}.by: {choice}`\n\n{inspect.getdoc(model)}\n\n" if choice else ""
    rows = []
    for name, info in model.model_fields.items():
        inner = models_in(info)
        if not inner:
            rows.append(config_row(f"{prefix}.{name}", info))
        for one in inner:
            rows.append((code(f"{prefix}.{name}"), "mapping or null", code(default_of(info)), info.description or ""))
            rows += [config_row(f"{prefix}.{name}.{key}", field) for key, field in one.model_fields.items()]
    return heading + table(COLUMNS, rows)


def slot_part() -> str:
    """The keys of slots."""
    rows = [config_row(name, info) for name, info in LossSlot.model_fields.items()]
    return "## Slots\n\n`weight` is for losses only.\n\n" + table(COLUMNS, rows)


def ramp_part() -> str:
    """The keys of ramps."""
    rows = [option_row(option) for option in options_of(Component("ramp", Ramp), "schedule")]
    return f"## Ramps\n\n{inspect.getdoc(Ramp).partition(chr(10))[0]}\n\n" + table(COLUMNS, rows)


def config_row(path: str, info: FieldInfo) -> tuple[str, str, str, str]:
    """One key."""
    return code(path), readable(info), code(default_of(info)), info.description or ""


def models_in(info: FieldInfo) -> list[type[BaseModel]]:
    """The sections a key holds; slots are no sections."""
    return [model for model in classes_in(info.annotation) if not issubclass(model, Slot | PerRole)]


def classes_in(annotation: Any) -> list[type[BaseModel]]:
    """The pydantic models an annotation names, outside mappings."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) is dict:
        return []
    return [model for argument in get_args(annotation) for model in classes_in(argument)]


def readable(info: FieldInfo) -> str:
    """A key's type as a user reads it."""
    text = type_text(Annotated[info.annotation, *info.metadata] if info.metadata else info.annotation)
    for name, words in TYPE_WORDS.items():
        text = re.sub(rf"\b{name}\b", words, text)
    return re.sub(r"list of (\d+): ([^,]+)(?:, \2)+", r"list of \1: each \2", text)


def default_of(info: FieldInfo) -> str:
    """A key's default as YAML, or that it must be given."""
    return "required" if info.is_required() else flow(plain(info.get_default()))
