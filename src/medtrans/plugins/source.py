"""The names of a component's options, read from its source without importing it.

A built-in's module imports torch, which takes longer than telling a misspelt option should.
"""

from __future__ import annotations

import ast
import functools
from pathlib import Path

from medtrans.plugins.hookspecs import Component
from medtrans.plugins.options import FACTS

__all__ = ["option_names"]


def option_names(component: Component, kind: str) -> list[str] | None:
    """The options' names, or None where the source does not show all of them."""
    if not isinstance(component.factory, str):
        return None
    module, _, attribute = component.factory.partition(":")
    found = _parameters(module, attribute)
    return None if found is None else [name for name in found if name not in {*FACTS[kind], *component.fixed}]


def _parameters(module: str, name: str) -> list[str] | None:
    tree = _parsed(module)
    definition = next((one for one in tree.body if getattr(one, "name", None) == name), None) if tree else None
    if tree is None or definition is None:
        imported = next(
            (one for one in (tree.body if tree else ()) if isinstance(one, ast.ImportFrom)
             and any((alias.asname or alias.name) == name for alias in one.names)),
            None,
        )  # fmt: skip
        return _parameters(imported.module, name) if imported and imported.module and not imported.level else None
    if isinstance(definition, ast.FunctionDef):
        plain = not definition.decorator_list and definition.args.kwarg is None
        return _named(definition, skip=0) if plain else None
    if not isinstance(definition, ast.ClassDef) or definition.decorator_list:
        return None
    constructor = next((one for one in definition.body if getattr(one, "name", None) == "__init__"), None)
    if isinstance(constructor, ast.FunctionDef) and constructor.args.kwarg is None:
        return _named(constructor, skip=1)
    inherited = [_parameters(module, base.id) if isinstance(base, ast.Name) else None for base in definition.bases[:1]]
    if not inherited or inherited[0] is None:
        return None
    return [*(_named(constructor, skip=1) if isinstance(constructor, ast.FunctionDef) else ()), *inherited[0]]


def _named(function: ast.FunctionDef, *, skip: int) -> list[str]:
    given = [*function.args.posonlyargs, *function.args.args][skip:]
    return [one.arg for one in (*given, *function.args.kwonlyargs)]


@functools.cache
def _parsed(module: str) -> ast.Module | None:
    package, *parts = module.split(".")
    if package != "medtrans":
        return None  # to look for a foreign module would import its package
    path = Path(__file__).parents[1].joinpath(*parts)
    file = path.with_suffix(".py") if not path.is_dir() else path / "__init__.py"
    return ast.parse(file.read_text(encoding="utf-8")) if file.is_file() else None
