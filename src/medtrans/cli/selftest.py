"""The verbs about what is installed: `show`, `selftest`."""

from __future__ import annotations

from typing import Annotated

import typer

from medtrans.cli.arguments import PluginFiles

__all__ = ["selftest", "show"]


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
