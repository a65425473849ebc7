"""The verbs about what is installed: `plugins list`, `test` and `new`, `show`, `selftest`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medtrans.cli.arguments import PluginFiles

__all__ = ["plugins", "plugins_list", "plugins_new", "plugins_test", "selftest", "show"]


ImportLimit = Annotated[
    float | None,
    typer.Option("--limit", metavar="SECONDS", min=0.5, help="How long each plugin may take to be imported; else 20."),
]


def plugins(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Fail where a plugin is broken.")] = False,
    limit: ImportLimit = None,
) -> None:
    """List the installed plugins, what each offers, and what is wrong with it."""
    if context.invoked_subcommand is None:
        _list_plugins(as_json, strict, limit)


def plugins_list(
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Fail where a plugin is broken.")] = False,
    limit: ImportLimit = None,
) -> None:
    """List the installed plugins, what each offers, and what is wrong with it."""
    _list_plugins(as_json, strict, limit)


def plugins_test(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A plugin, or PLUGIN:COMPONENT for one component.")],
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    plugin: PluginFiles = None,
) -> None:
    """Try every component of a plugin against the contract of its kind, with a verdict on each rule."""
    from medtrans.testing.kits import plugin_text, plugin_verdicts

    text, broken = plugin_text(plugin_verdicts(name, plugin or ()), as_json=as_json)
    typer.echo(text, nl=False)
    if broken:
        raise typer.Exit(4)


def plugins_new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What stands before the colon in configs.")],
    kind: Annotated[str, typer.Option("--kind", help="What it offers: generator, loss, dataset, ...")] = "generator",
    output: Annotated[Path | None, typer.Option("--output", help="Folder to make; ./NAME if not given.")] = None,
) -> None:
    """Write an installable plugin package to start from, with tests that pass."""
    from medtrans.cli.scaffold import write_plugin

    typer.echo(str(write_plugin(name, kind, output or Path(name))))


def _list_plugins(as_json: bool, strict: bool, limit_s: float | None) -> None:
    from medtrans.cli import listing

    text, problems = listing.plugins(as_json=as_json, limit_s=limit_s)
    typer.echo(text, nl=False)
    if strict and problems:
        raise typer.Exit(4)


def selftest(
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Check, within a minute, that medtrans keeps its promises on this machine; exit code 5 where it does not."""
    from rich.console import Console

    from medtrans.testing.selftest import suite

    if as_json:
        text, passed = suite.as_json(suite.run_checks())
        typer.echo(text)
    else:
        passed = suite.show(suite.run_checks(), Console())
    if not passed:
        raise typer.Exit(5)


def show(
    kind: Annotated[str | None, typer.Argument(help="generator, loss, ... or config.")] = None,
    name: Annotated[str | None, typer.Argument(help="A component, as a config names it.")] = None,
    plugin: PluginFiles = None,
) -> None:
    """List components; show one's options as YAML to paste, or a shipped config."""
    from medtrans.cli import listing

    typer.echo(listing.shown(kind, name, plugin or ()), nl=False)
