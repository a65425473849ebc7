"""The verbs that score and compare images: `evaluate`, `compare`, `report`."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from medtrans.cli.arguments import PluginFiles, leads, pairs, print_table
from medtrans.errors import ConfigError

if TYPE_CHECKING:
    from medtrans.config.protocols import Protocol

__all__ = ["compare", "evaluate", "report"]


class Viewer(Enum):
    """Whether a report carries an interactive viewer."""

    none = "none"
    inline = "inline"


def evaluate(
    run_folder: Annotated[Path | None, typer.Argument(metavar="[RUN]", help="Folder of a trained run.")] = None,
    prediction: Annotated[
        Path | None, typer.Option("--prediction", help="Instead of a run: folder of anybody's predicted images.")
    ] = None,
    target: Annotated[
        Path | None, typer.Option("--target", help="Folder of the true images, with the same file names.")
    ] = None,
    mask: Annotated[
        Path | None, typer.Option("--mask", help="Folder of masks, likewise; voxels above 0 count.")
    ] = None,
    image: Annotated[
        list[str] | None,
        typer.Option("--image", help="MODALITY=FOLDER: further images that a metric looks at, such as labels=FOLDER."),
    ] = None,
    metric: Annotated[
        list[str] | None, typer.Option("--metric", help="A metric to score by; psnr, ssim, nmse and mae unless given.")
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option("--option", help="METRIC.OPTION=VALUE, such as ssim.window=5.")
    ] = None,
    limits: Annotated[
        tuple[float, float] | None,
        typer.Option("--range", metavar="LOW HIGH", help="Intensities both images are clipped to: the data range."),
    ] = None,
    unit: Annotated[str, typer.Option("--unit", help="Of the intensities, such as HU.")] = "",
    protocol: Annotated[
        str, typer.Option("--protocol", help="A published way of scoring: synthrad2023 or synthrad2025.")
    ] = "native",
    output: Annotated[
        Path | None, typer.Option("--output", help="Folder to leave metrics.csv and summary.json in.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are there.")] = False,
    plugin: PluginFiles = None,
) -> None:
    """Score a run's test cases again, or score a folder of images that anything predicted."""
    from medtrans.cli.tables import summary_table

    if run_folder is not None:
        if any((prediction, target, mask, image, metric, option, limits, unit, output, overwrite)) or (
            protocol != "native"
        ):
            raise ConfigError("evaluate RUN takes all from the run's config; --prediction and the like go without RUN")
        from medtrans.pipeline import evaluate as evaluate_run

        folder = evaluate_run(run_folder, plugins=plugin or ())
        if leads():
            print_table(summary_table(folder.read_json(folder.summary)))
        return
    if prediction is None or target is None:
        raise ConfigError("evaluate needs RUN, or --prediction FOLDER and --target FOLDER")
    from medtrans.evaluation.folders import Scoring, evaluate_folders

    scored = evaluate_folders(
        prediction,
        target,
        mask=mask,
        images=pairs(image or [], example="labels=FOLDER"),
        scoring=Scoring(metric or (), Scoring.options_from(option or []), protocol_named(protocol), limits, unit),
        output=output,
        overwrite=overwrite,
        plugins=plugin or (),
    )
    print_table(summary_table(scored.summary, {row.label: row.case for row in scored.rows}))


def compare(
    run_folders: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Evaluated runs; all are compared with the first.")
    ],
    metric: Annotated[list[str] | None, typer.Option("--metric", help="A column to compare; all unless given.")] = None,
    table: Annotated[str, typer.Option("--format", help="What is printed: markdown, latex or json.")] = "markdown",
    output: Annotated[
        Path | None, typer.Option("--output", help="Folder to leave comparison.json, .md and .tex in.")
    ] = None,
) -> None:
    """Compare runs case by case: gains with intervals, effect sizes, Wilcoxon and permutation tests."""
    import json

    from medtrans.evaluation.run_comparison import compare_runs
    from medtrans.report.comparison_tables import as_latex, as_markdown

    if table not in ("markdown", "latex", "json"):
        raise ConfigError(f"--format {table}: expected markdown, latex or json")
    comparison = compare_runs(run_folders, metric or ())
    texts = {
        "markdown": as_markdown(comparison),
        "latex": as_latex(comparison),
        "json": json.dumps(comparison, indent=2, ensure_ascii=False) + "\n",
    }
    if output is not None:
        from medtrans.report.comparison_tables import write_tables

        write_tables(output, texts)
    typer.echo(texts[table], nl=False)


def report(
    run_folders: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Evaluated runs; several are compared.")],
    viewer: Annotated[
        Viewer,
        typer.Option("--viewer", help="inline: carry an interactive viewer of the shown cases, some MB each."),
    ] = Viewer.none,
    output: Annotated[
        Path, typer.Option("--output", metavar="FILE", help="Page to write that compares several runs.")
    ] = Path("comparison.html"),
) -> None:
    """Write a run's report.html again, or a page that compares several runs."""
    from medtrans.runs.folder import RunFolder

    folders = [RunFolder.existing(path) for path in run_folders]
    if len(folders) == 1:
        from medtrans.report.run_report import write_report

        typer.echo(str(write_report(folders[0], viewer=viewer.value)))
        return
    if viewer is not Viewer.none:
        raise ConfigError("--viewer inline: a comparison carries no viewer; give one RUN")
    from medtrans.report.comparison import write_comparison

    typer.echo(str(write_comparison(folders, output)))


def protocol_named(name: str) -> Protocol:
    from medtrans.config.protocols import PROTOCOLS
    from medtrans.utils.messages import did_you_mean

    if name not in PROTOCOLS:
        raise ConfigError(f"--protocol {name}: expected one of {', '.join(PROTOCOLS)}{did_you_mean(name, PROTOCOLS)}")
    return cast("Protocol", name)
