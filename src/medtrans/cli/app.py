"""The command line: which verbs there are, and how errors end."""

from __future__ import annotations

import logging
import sys
from typing import Annotated, Any

import typer
import typer.core

from medtrans.cli import evaluate, plugins, predict, train
from medtrans.distributed.determinism import choose_repeatable_kernels
from medtrans.errors import ConfigError, MedtransError, SetupError
from medtrans.utils.messages import VisibleFormatter, visible

__all__ = ["app", "main"]


_ELSEWHERE = {
    "train": "run", "fit": "run", "resume": "run ... --resume", "test": "evaluate", "eval": "evaluate",
    "score": "evaluate", "infer": "predict", "inference": "predict", "translate": "predict", "apply": "predict",
    "validate": "check", "new": "init", "list": "show", "version": "--version", "help": "--help",
}  # fmt: skip


class _Verbs(typer.core.TyperGroup):
    """The verbs, with the right one for a word that is usual elsewhere."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] in _ELSEWHERE and args[0] not in self.commands:
            raise ConfigError(f"no verb '{args[0]}': write medtrans {_ELSEWHERE[args[0]]}")
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=_Verbs,
    name="medtrans",
    help="Translate 3D medical images from one modality to another. For research use only, not for diagnosis.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
plugins_app = typer.Typer(help="The plugins that are installed.", invoke_without_command=True)
app.add_typer(plugins_app, name="plugins")


def _print_versions(asked: bool) -> None:
    if asked:
        from medtrans.cli import listing

        typer.echo(listing.versions(), nl=False)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_versions, is_eager=True, help="Versions of medtrans and plugins."),
    ] = False,
) -> None:
    """Options of the program itself."""


for verb in (
    train.run, train.check, train.init, predict.predict, evaluate.evaluate, evaluate.compare, predict.export,
    evaluate.downstream, evaluate.report, plugins.selftest, plugins.show,
):  # fmt: skip
    app.command()(verb)
plugins_app.callback()(plugins.plugins)
plugins_app.command("list")(plugins.plugins_list)
plugins_app.command("test")(plugins.plugins_test)
plugins_app.command("new")(plugins.plugins_new)


def main() -> None:
    """The console script: a fault of the user's is a message and an exit code, anything else a traceback."""
    choose_repeatable_kernels()
    if logging.lastResort is not None:  # by which warnings reach the terminal where no run has a log
        logging.lastResort.setFormatter(VisibleFormatter("%(message)s"))
    try:
        app()
    except MedtransError as error:
        for fault in error.faults:
            print(visible(f"{_rank()}{fault}"), file=sys.stderr)  # noqa: T201 -- the message for the user
        raise SystemExit(error.exit_code) from None


def _rank() -> str:
    """Whose message it is, where several processes work together."""
    from medtrans.distributed.launch import place

    try:
        here = place()
    except SetupError:
        return ""
    return f"rank {here.rank}: " if here.count > 1 else ""
