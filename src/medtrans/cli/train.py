"""The verbs before and around training: `run`, `check`, `init`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medtrans.cli.arguments import PluginFiles, Sources, configs_and_overrides, leads, print_table, require_folder
from medtrans.errors import ConfigError

__all__ = ["check", "init", "run"]


def run(
    sources: Sources,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the last checkpoint.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Begin anew in the run's folder.")] = False,
    plugin: PluginFiles = None,
) -> None:
    """Train, validate, test and report what a config describes."""
    if resume and overwrite:
        raise ConfigError("--resume and --overwrite exclude each other; give one")
    configs, overrides = _right_names(sources, plugin)
    from medtrans.pipeline import run as run_pipeline

    folder = run_pipeline(configs, overrides, resume=resume, overwrite=overwrite, plugins=plugin or ())
    if not leads():
        return
    from medtrans.cli.tables import summary_table

    print_table(summary_table(folder.read_json(folder.summary)))
    typer.echo(f"report: {folder.report}")


def check(
    sources: Sources,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the report as JSON.")] = None,
    clear_cache: Annotated[
        bool, typer.Option("--clear-cache", help="First remove the run's preprocessed volumes, and nothing else.")
    ] = False,
    plugin: PluginFiles = None,
) -> None:
    """Find out all that can be known before the first step: config, plugins, every header and voxel, one tiny step."""
    configs, overrides = _right_names(sources, plugin)
    from medtrans import pipeline
    from medtrans.utils.files import write_json

    if json_file is not None:
        require_folder(json_file)
    if clear_cache:
        freed = pipeline.clear_cache(configs, overrides, plugins=plugin or ())
        typer.echo(f"cache removed: {freed:,} bytes", err=True)
    report = pipeline.check(configs, overrides, plugins=plugin or ())
    if json_file is not None:
        write_json(json_file, report.as_data())
    typer.echo(str(report))
    if not report.ready:
        raise typer.Exit(report.exit_code)


def _right_names(sources: list[str], plugins: list[Path] | None) -> tuple[list[str], list[str]]:
    """Configs and overrides; a slip of the pen in them is told before the heavy libraries are imported."""
    from medtrans.config.loading import check_names

    configs, overrides = configs_and_overrides(sources)
    check_names(configs, overrides, plugins or ())
    return configs, overrides


def init(
    root: Annotated[Path, typer.Argument(metavar="ROOT", help="Folder that holds the images.")],
    output: Annotated[Path, typer.Option("--output", help="File to write; never overwritten.")] = Path("config.yaml"),
) -> None:
    """Write a commented starter config from the names of the images below a folder."""
    from medtrans.cli.starter import write_starter

    starter = write_starter(root, output)
    for note in starter.notes:
        typer.echo(note, err=True)
    typer.echo(str(starter.path))
