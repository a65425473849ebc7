"""Owns the walk between the schema's classes and plain data: where a fault lies, and which keys a place knows."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

__all__ = ["data_path", "known_keys"]

TreePath = tuple[str | int, ...]


def data_path(location: Sequence[str | int], data: Any) -> TreePath:
    """A pydantic location without the names of union branches."""
    path: list[str | int] = []
    for index, part in enumerate(location):
        inside = (isinstance(data, Mapping) and part in data) or (isinstance(data, list) and isinstance(part, int))
        if inside:
            data = data[part] if not isinstance(data, list) or part < len(data) else None  # type: ignore[operator]  # an index into a list
        elif index < len(location) - 1 or not isinstance(data, Mapping):
            continue
        path.append(part)
    return tuple(path)


def known_keys(root: type[BaseModel], path: TreePath) -> list[str]:
    """The keys that the schema knows at `path`, of all branches where a place may take several forms."""
    kinds: list[Any] = [root]
    for part in path:
        kinds = [inner for kind in kinds for inner in _children(kind, part)]
    return sorted({name for kind in kinds for name in _names(kind)})


def _children(kind: Any, part: str | int) -> list[Any]:
    if get_origin(kind) is dict:
        return _branches(get_args(kind)[1])
    if isinstance(kind, type) and issubclass(kind, BaseModel) and part in kind.model_fields:
        return _branches(kind.model_fields[str(part)].annotation)
    return []


def _branches(annotation: Any) -> list[Any]:
    if get_origin(annotation) is Annotated:
        return _branches(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return [branch for option in get_args(annotation) for branch in _branches(option)]
    return [annotation]


def _names(kind: Any) -> list[str]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return list(kind.model_fields)
    if is_dataclass(kind):
        return [field.name for field in fields(kind)]
    return []
