"""The verbs that score and compare images: `evaluate`, `compare`, `report`, `downstream`."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from medtrans.cli.arguments import PluginFiles, Readings, leads, pairs, print_table, reading_rules
from medtrans.errors import ConfigError, SetupError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medtrans.config.protocols import Protocol

__all__ = ["compare", "downstream", "evaluate", "report"]


class Viewer(Enum):
    """Whether a report carries an interactive viewer."""

    none = "none"
    inline = "inline"


def evaluate(
    run_folder: Annotated[Path | None, typer.Argument(metavar="RUN", help="Folder of a trained run.")] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE...", help="Keys under dataset.options and reading, for data that moved."),
    ] = None,
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
    reading: Readings = None,
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

        folder = evaluate_run(
            run_folder, [*(overrides or ()), *(f"reading.{one}" for one in reading or ())], plugins=plugin or ()
        )
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
        scoring=Scoring(metric or (), Scoring.options_from(option or []), _protocol(protocol), limits, unit),
        output=output,
        overwrite=overwrite,
        rules=reading_rules(reading or []),
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
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are there.")] = False,
) -> None:
    """Compare runs case by case: gains with intervals, effect sizes, Wilcoxon and permutation tests."""
    import json

    from medtrans.cli.tables import as_latex, as_markdown
    from medtrans.evaluation.run_comparison import compare_runs
    from medtrans.utils.files import write_text

    if table not in _ENDINGS:
        raise ConfigError(f"--format {table}: expected markdown, latex or json")
    written = {} if output is None else {kind: output / f"comparison.{end}" for kind, end in _ENDINGS.items()}
    if not overwrite and (there := [str(path) for path in written.values() if path.exists()]):
        raise ConfigError(f"{', '.join(there)}: is there already; choose another --output, or give --overwrite")
    comparison = compare_runs(run_folders, metric or ())
    texts = {
        "markdown": as_markdown(comparison),
        "latex": as_latex(comparison),
        "json": json.dumps(comparison, indent=2, ensure_ascii=False) + "\n",
    }
    if output is not None:
        try:
            output.mkdir(parents=True, exist_ok=True)
            for kind, path in written.items():
                write_text(path, texts[kind])
        except OSError as error:
            raise SetupError(f"{output}: cannot be written ({error.strerror}); choose another --output") from error
    _say_which(run_folders)
    typer.echo(texts[table], nl=False)


_ENDINGS = {"markdown": "md", "latex": "tex", "json": "json"}


def report(
    run_folders: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Evaluated runs; several are compared.")],
    viewer: Annotated[
        Viewer | None,
        typer.Option("--viewer", help="inline: carry an interactive viewer of the shown cases, some MB each."),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", metavar="FILE", help="Page to write that compares several runs.")
    ] = Path("comparison.html"),
) -> None:
    """Write a run's report.html again, or a page that compares several runs."""
    from medtrans.runs.folder import RunFolder

    folders = [RunFolder.existing(path) for path in run_folders]
    if len(folders) == 1:
        from medtrans.report.run_report import write_report

        typer.echo(str(write_report(folders[0], viewer=None if viewer is None else viewer.value)))
        return
    if viewer is Viewer.inline:
        raise ConfigError("--viewer inline: a comparison carries no viewer; give one RUN")
    from medtrans.report.comparison import write_comparison

    page = write_comparison(folders, output)
    _say_which(run_folders)
    typer.echo(str(page))


def _say_which(folders: Sequence[Path]) -> None:
    """Tell the user alone which folder goes by which name: tables and pages, which are shared, name none."""
    from medtrans.evaluation.run_comparison import run_names

    for name, folder in zip(run_names(folders), folders, strict=True):
        typer.echo(f"{name}: {folder}", err=True)


def _protocol(name: str) -> Protocol:
    from medtrans.config.protocols import PROTOCOLS
    from medtrans.utils.messages import did_you_mean

    if name not in PROTOCOLS:
        raise ConfigError(f"--protocol {name}: expected one of {', '.join(PROTOCOLS)}{did_you_mean(name, PROTOCOLS)}")
    return cast("Protocol", name)


def downstream(
    run_folder: Annotated[Path | None, typer.Argument(metavar="[RUN]", help="Folder of a trained run.")] = None,
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Keys under downstream, for this time.")
    ] = None,
    prediction: Annotated[
        Path | None, typer.Option("--prediction", metavar="FOLDER", help="Label maps to score, instead of a run.")
    ] = None,
    target: Annotated[
        Path | None, typer.Option("--target", metavar="FOLDER", help="The true label maps, with the same file names.")
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option("--label", metavar="NAME=1,2", help="A class and its labels; all by default.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FOLDER", help="Folder for the scores of label maps.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Begin anew.")] = False,
    plugin: PluginFiles = None,
) -> None:
    """Find out what a run's synthetic images are worth to a segmenter; or score label maps that you have."""
    if (run_folder is None) == (prediction is None or target is None):
        raise ConfigError("downstream needs either RUN, or --prediction FOLDER and --target FOLDER")
    if run_folder is None and prediction is not None and target is not None:
        _score_labels(prediction, target, label or [], output)
        return
    from medtrans.cli.tables import downstream_table
    from medtrans.pipeline import downstream as assess_run

    folder = assess_run(run_folder or Path(), settings or (), overwrite=overwrite, plugins=plugin or ())
    print_table(downstream_table(folder.read_json(folder.downstream)))
    typer.echo(f"results: {folder.downstream}")


def _score_labels(prediction: Path, target: Path, labels: list[str], output: Path | None) -> None:
    from medtrans.cli.tables import summary_table
    from medtrans.evaluation.folders import score_label_maps
    from medtrans.evaluation.scores import write_metrics_csv
    from medtrans.utils.files import write_json

    summary, rows = score_label_maps(prediction, target, labels=_classes(labels) or None)
    shown = {"cases": len(rows), "metrics": summary, "baselines": {}}
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        write_metrics_csv(output / "metrics.csv", rows)
        write_json(output / "summary.json", {**shown, "warnings": []})
    print_table(summary_table(shown))


def _classes(labels: list[str]) -> dict[str, tuple[int, ...]]:
    classes = {}
    for label in labels:
        name, equals, values = label.partition("=")
        parts = values.split(",")
        if not (name and equals and all(part.strip().isdigit() for part in parts)):
            raise ConfigError(f"--label {label}: expected NAME=LABEL[,LABEL], such as whole_tumour=1,2,4")
        classes[name] = tuple(int(part) for part in parts)
    return classes
