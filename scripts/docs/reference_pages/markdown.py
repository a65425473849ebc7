"""Tables, and values as a user writes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml
from pydantic import BaseModel

from medtrans.plugins.describe import type_text
from medtrans.plugins.options import Option


def table(heading: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [heading, tuple("---" for _ in heading), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


def option_row(option: Option) -> tuple[str, str, str, str]:
    """One option."""
    default = "required" if option.required else flow(plain(option.default))
    return code(option.name), type_text(option.annotation), code(default), option.doc


def code(text: str) -> str:
    """Text as code; "required" is a word, not a value."""
    return text if text == "required" else f"`{text}`"


def flow(value: Any) -> str:
    """A value as YAML on one line."""
    dumped: str = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10_000)
    return dumped.removesuffix("...\n").strip()


def plain(value: Any, key: str = "") -> Any:
    """A default as YAML can hold it; of slots only what is not understood."""
    if isinstance(value, BaseModel):
        given = {name: plain(getattr(value, name)) for name in type(value).model_fields}
        return {name: one for name, one in given.items() if (name, one) not in (("name", key), ("options", {}))}
    if isinstance(value, tuple | list):
        return [plain(one) for one in value]
    if isinstance(value, Mapping):
        return {str(name): plain(one, str(name)) for name, one in value.items()}
    return value
