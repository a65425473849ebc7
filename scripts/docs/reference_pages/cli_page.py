"""The page of the command line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

from medtrans.cli.app import app

from .markdown import code, table

CLI_INTRO = """\
# Command line

Results go to stdout, progress and warnings to stderr. A fault that you can act on is a message and an exit code, never
a traceback: 2 for the config, 3 for the data, 4 for the machine or a plugin, 5 for training. A run that a signal asked
to end saves and exits with 75, after Ctrl-C with 130: go on with `--resume`.
"""


def cli_page() -> str:
    """Every verb with its arguments and options."""
    return "\n".join([CLI_INTRO, *(verb_part(words, verb) for words, verb in verbs(typer.main.get_command(app)))])


def verbs(command: Any, words: tuple[str, ...] = ("medtrans",)) -> Iterator[tuple[tuple[str, ...], Any]]:
    """A command and those under it, with the words that call each."""
    yield words, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from verbs(inner, (*words, name))


def verb_part(words: tuple[str, ...], verb: Any) -> str:
    """One verb."""
    given = [parameter for parameter in verb.params if parameter.param_type_name == "argument"]
    usage = " ".join(
        [*words, *(placeholder(one) for one in given), *(["[OPTIONS]"] if len(given) < len(verb.params) else [])]
    )
    if getattr(verb, "commands", None):
        usage += " [COMMAND]"
    rows = [(code(shown_as(one)), one.help or "") for one in verb.params]
    details = table(("argument or option", "meaning"), rows) if rows else ""
    return f"## `{' '.join(words)}`\n\n{verb.help}\n\n```text\n{usage}\n```\n\n{details}"


def placeholder(argument: Any) -> str:
    """An argument in a usage line."""
    name = (argument.metavar or argument.name.upper()).strip("[]")
    return f"{name if argument.required else f'[{name}]'}{'...' if argument.nargs == -1 else ''}"


def shown_as(parameter: Any) -> str:
    """An argument or option in a table."""
    if parameter.param_type_name == "argument":
        return placeholder(parameter)
    return ", ".join(parameter.opts) + ("" if parameter.is_flag else " VALUE") + (" ..." if parameter.multiple else "")
