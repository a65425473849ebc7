"""The verbs that apply a trained run, or hand it on: `predict`, `export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medtrans.cli.arguments import PluginFiles, Readings, pairs
from medtrans.errors import ConfigError
from medtrans.utils.messages import visible

__all__ = ["export", "predict"]


def predict(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a trained run, or of an export.")],
    source: Annotated[
        Path | None, typer.Argument(metavar="IN", help="An image, a folder of images, or a folder for each patient.")
    ] = None,
    output: Annotated[Path | None, typer.Argument(metavar="OUT", help="File or folder to write.")] = None,
    image: Annotated[
        list[str] | None, typer.Option("--image", help="For several sources: MODALITY=FILE, once for each.")
    ] = None,
    mask: Annotated[
        Path | None, typer.Option("--mask", help="Mask of the image, or a folder of masks of the images' names.")
    ] = None,
    pattern: Annotated[
        str | None, typer.Option("--pattern", help="Which images of a folder are sources, such as '*/t1.nii.gz'.")
    ] = None,
    missing: Annotated[bool, typer.Option("--missing", help="Translate only what has no translation yet.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace earlier predictions.")] = False,
    reading: Readings = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse images that are unlike those the run was trained on.")
    ] = False,
    stream: Annotated[
        bool,
        typer.Option("--stream", help="Go by slabs, from file to file, as images that do not fit into memory do."),
    ] = False,
    plugin: PluginFiles = None,
) -> None:
    """Translate images with a trained run."""
    from medtrans.inference.prediction import predict as predict_files

    if image and source is not None and output is None:
        source, output = None, source
    if output is None or (source is None and not image):
        raise ConfigError("predict needs RUN IN OUT, or RUN OUT with --image MODALITY=FILE for each source")
    for written in predict_files(
        run_folder,
        source,
        output,
        images=pairs(image or []),
        mask=mask,
        overwrite=overwrite,
        strict=strict,
        stream=stream,
        pattern=pattern,
        missing=missing,
        reading=reading or (),
        plugins=plugin or (),
    ):
        typer.echo(visible(str(written)))


def export(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a trained run.")],
    output: Annotated[
        Path | None, typer.Argument(metavar="[OUT]", help="Folder to make; RUN/export if it is not given.")
    ] = None,
    licence: Annotated[str, typer.Option("--licence", help="Of the weights, for the card.")] = "not stated",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an export that is there.")] = False,
    plugin: PluginFiles = None,
) -> None:
    """Make a folder to hand on: weights, settings and a card; no code, case or path. predict works from it alone."""
    from medtrans.inference.export.writer import export as export_run

    typer.echo(str(export_run(run_folder, output, licence=licence, overwrite=overwrite, plugins=plugin or ())))
