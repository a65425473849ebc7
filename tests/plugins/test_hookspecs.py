"""Nothing that a plugin meets is without documentation: hooks, facts, rules, components, options, commands."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docstring_parser
import pytest
import typer
from reference_pages import PAGES as REFERENCE

from medtrans.cli.app import app
from medtrans.plugins import hookspecs
from medtrans.plugins.discovery import discover
from medtrans.plugins.hookspecs import KINDS, PLUGIN_API, Component
from medtrans.plugins.optimizers import OPTIMIZERS, SCHEDULES
from medtrans.plugins.options import FACT_MEANINGS, FACTS, options_of, summary_of
from medtrans.plugins.registry import BUILTIN, Registry
from medtrans.testing.kits import KITS
from medtrans.testing.transform import AUGMENTATION_RULES, SCALING_RULES

ROOT = Path(__file__).parents[2]
HOOKS_PAGE = REFERENCE["reference/hooks.md"]()
COMPONENTS_PAGE = REFERENCE["reference/components.md"]()
GUIDE = (ROOT / "docs" / "plugin.md").read_text(encoding="utf-8")
TESTS = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))


def own_components() -> list[Any]:
    registry = Registry()
    found = []
    for origin in discover():
        if origin.own:
            prefix = "" if origin.prefix == BUILTIN else f"{origin.prefix}:"
            for (kind, name), component in registry.plugin(origin.prefix).components.items():
                found.append(pytest.param(kind, f"{prefix}{name}", component, id=f"{kind} {prefix}{name}"))
    for kind, known in {"optimizer": OPTIMIZERS, "schedule": SCHEDULES}.items():
        for name, factory in known.items():
            found.append(pytest.param(kind, name, Component(name, factory), id=f"{kind} {name}"))
    return found


def test_the_kinds_are_the_hooks() -> None:
    specified = {name for name, value in vars(hookspecs).items() if hasattr(value, "medtrans_spec")}
    assert set(KINDS.values()) == specified
    assert set(KITS) == set(KINDS) == set(FACTS) - {"optimizer", "schedule"}


@pytest.mark.parametrize("kind", KINDS)
def test_every_hook_is_documented_with_facts_and_rules(kind: str) -> None:
    assert inspect.getdoc(getattr(hookspecs, KINDS[kind]))
    assert set(FACTS[kind]) <= set(FACT_MEANINGS)
    rules = (*SCALING_RULES, *AUGMENTATION_RULES) if kind == "transform" else KITS[kind].rules(None)
    assert [rule.sentence for rule in rules if not inspect.getdoc(rule.check)] == []


@pytest.mark.parametrize("kind", KINDS)
def test_every_setting_of_a_check_is_documented(kind: str) -> None:
    check = KITS[kind].check
    described = {one.arg_name for one in docstring_parser.parse(check.__doc__ or "").params if one.description}
    assert described == set(inspect.signature(check).parameters)


@pytest.mark.parametrize(("kind", "name", "component"), own_components())
def test_every_component_and_each_of_its_options_is_documented(kind: str, name: str, component: Component) -> None:
    assert summary_of(component)
    assert [option.name for option in options_of(component, kind) if not option.doc] == []


def commands(command: Any, words: tuple[str, ...] = ("medtrans",)) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield words, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, (*words, name))


def test_every_command_and_each_of_its_options_says_what_it_does() -> None:
    silent = [
        f"{' '.join(words)} {parameter.name}"
        for words, command in commands(typer.main.get_command(app))
        for parameter in command.params
        if not parameter.help and parameter.name != "help"
    ]
    assert silent == []


def test_built_in_and_packaged_plugins_state_the_interface() -> None:
    modules = [*ROOT.glob("plugins/*/src/*/__init__.py"), ROOT / "src/medtrans/builtin/__init__.py"]
    for module in modules:
        stated = [
            ast.literal_eval(node.value)
            for node in ast.parse(module.read_text(encoding="utf-8")).body
            if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "PLUGIN_API"
        ]
        assert stated == [PLUGIN_API], module


def test_packaged_plugins_and_examples_use_public_names_only() -> None:
    public = {"medtrans", "medtrans.types", "medtrans.volume", "medtrans.testing"}
    files = [*ROOT.glob("plugins/*/src/**/*.py"), *ROOT.glob("docs/examples/*.py")]
    assert files
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and node.level == 0 else []
            inside = {name for name in names if name.split(".")[0] == "medtrans"}
            assert inside <= public, f"{file}: {inside - public}"
