"""Owns the command line: verbs, their help, and how errors end."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from medtrans.errors import ConfigError, MedtransError

__all__ = ["app", "main"]

app = typer.Typer(
    name="medtrans",
    help="Translate 3D medical images from one modality to another. For research use only, not for diagnosis.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
plugins_app = typer.Typer(help="The plugins that are installed.", invoke_without_command=True)
app.add_typer(plugins_app, name="plugins")

PluginFiles = Annotated[list[Path] | None, typer.Option("--plugin", help="A single-file plugin to have at hand.")]
Sources = Annotated[
    list[str],
    typer.Argument(help="Config files or names of shipped configs, later ones win; then key=value overrides."),
]


def _say_versions(asked: bool) -> None:
    if asked:
        from medtrans import listing

        typer.echo(listing.versions(), nl=False)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_say_versions, is_eager=True, help="Versions of medtrans and its plugins."),
    ] = False,
) -> None:
    """Options of the program itself."""


@app.command()
def run(
    sources: Sources,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the last checkpoint.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Begin anew in the run's folder.")] = False,
    plugin: PluginFiles = None,
) -> None:
    """Train, validate, test and report what a config describes."""
    from medtrans.pipeline import run as run_pipeline

    if resume and overwrite:
        raise ConfigError("--resume and --overwrite exclude each other; give one")
    configs, overrides = _split(sources)
    folder = run_pipeline(configs, overrides, resume=resume, overwrite=overwrite, plugins=plugin or ())
    from medtrans.tables import summary_table

    _print(summary_table(folder.read_json(folder.summary)))
    typer.echo(f"report: {folder.report}")


@app.command()
def check(sources: Sources, plugin: PluginFiles = None) -> None:
    """Find out all that can be known before the first step: config, plugins, headers, one tiny step."""
    from medtrans.pipeline import check as check_pipeline

    configs, overrides = _split(sources)
    report = check_pipeline(configs, overrides, plugins=plugin or ())
    typer.echo(str(report))


@app.command()
def predict(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a trained run.")],
    source: Annotated[Path | None, typer.Argument(metavar="[IN]", help="An image, or a folder of images.")] = None,
    output: Annotated[Path | None, typer.Argument(metavar="OUT", help="File or folder to write.")] = None,
    image: Annotated[
        list[str] | None, typer.Option("--image", help="For several sources: MODALITY=FILE, once for each.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are there.")] = False,
    plugin: PluginFiles = None,
) -> None:
    """Translate images with a trained run."""
    from medtrans.prediction import predict as predict_files

    if image and source is not None and output is None:
        source, output = None, source
    if output is None or (source is None and not image):
        raise ConfigError("predict needs RUN IN OUT, or RUN OUT with --image MODALITY=FILE for each source")
    for written in predict_files(
        run_folder, source, output, images=_pairs(image or []), overwrite=overwrite, plugins=plugin or ()
    ):
        typer.echo(str(written))


@app.command()
def evaluate(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a trained run.")],
    plugin: PluginFiles = None,
) -> None:
    """Score a run's test cases again and write its report."""
    from medtrans.pipeline import evaluate as evaluate_run
    from medtrans.tables import summary_table

    folder = evaluate_run(run_folder, plugins=plugin or ())
    _print(summary_table(folder.read_json(folder.summary)))


@app.command()
def report(run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of an evaluated run.")]) -> None:
    """Write a run's report.html again."""
    from medtrans.runfolder import RunFolder
    from medtrans.runreport import write_report

    typer.echo(str(write_report(RunFolder.existing(run_folder))))


@app.command()
def show(
    kind: Annotated[str | None, typer.Argument(help="generator, loss, ... or config.")] = None,
    name: Annotated[str | None, typer.Argument(help="A component, as a config names it.")] = None,
    plugin: PluginFiles = None,
) -> None:
    """List components; show one's options as YAML to paste, or a shipped config."""
    from medtrans import listing

    typer.echo(listing.shown(kind, name, plugin or ()), nl=False)


@plugins_app.callback()
def plugins(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Fail where a plugin is broken.")] = False,
) -> None:
    """List the installed plugins, what each offers, and what is wrong with it."""
    if context.invoked_subcommand is None:
        _list_plugins(as_json, strict)


@plugins_app.command("list")
def plugins_list(
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Fail where a plugin is broken.")] = False,
) -> None:
    """List the installed plugins, what each offers, and what is wrong with it."""
    _list_plugins(as_json, strict)


def main() -> None:
    """The console script: a fault of the user's is a message and an exit code, anything else a traceback."""
    try:
        app()
    except MedtransError as error:
        for fault in error.faults:
            print(fault, file=sys.stderr)  # noqa: T201 -- the message for the user
        raise SystemExit(error.exit_code) from None


def _list_plugins(as_json: bool, strict: bool) -> None:
    from medtrans import listing

    text, problems = listing.plugins(as_json=as_json)
    typer.echo(text, nl=False)
    if strict and problems:
        raise typer.Exit(4)


def _split(sources: list[str]) -> tuple[list[str], list[str]]:
    return [one for one in sources if "=" not in one], [one for one in sources if "=" in one]


def _pairs(images: list[str]) -> dict[str, Path]:
    pairs = {}
    for image in images:
        modality, equals, path = image.partition("=")
        if not equals:
            raise ConfigError(f"--image {image}: expected MODALITY=FILE, such as t1=scan.nii.gz")
        pairs[modality] = Path(path)
    return pairs


def _print(table: object) -> None:
    from rich.console import Console

    Console().print(table)
