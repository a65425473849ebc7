"""The verb `downstream`: what synthetic images are worth to a segmenter, and scores of label maps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medtrans.cli.arguments import PluginFiles, print_table
from medtrans.errors import ConfigError

__all__ = ["downstream"]


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
