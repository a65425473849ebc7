"""Owns the command line: verbs, their help, and how errors end."""

from __future__ import annotations

import sys
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from medtrans.arithmetic import choose_repeatable_kernels
from medtrans.errors import ConfigError, MedtransError, SetupError

if TYPE_CHECKING:
    from medtrans.protocols import Protocol

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


class Against(Enum):
    """What a config's speed is compared with."""

    reference = "reference"
    torchio = "torchio"
    monai = "monai"


class Viewer(Enum):
    """Whether a report carries an interactive viewer."""

    none = "none"
    inline = "inline"


PluginFiles = Annotated[list[Path] | None, typer.Option("--plugin", help="A single-file plugin to have at hand.")]
ImportLimit = Annotated[
    float | None,
    typer.Option("--limit", metavar="SECONDS", min=0.5, help="How long each plugin may take to be imported; else 20."),
]
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
    if not _leads():
        return
    from medtrans.tables import summary_table

    _print(summary_table(folder.read_json(folder.summary)))
    typer.echo(f"report: {folder.report}")


@app.command()
def check(
    sources: Sources,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the report as JSON.")] = None,
    clear_cache: Annotated[
        bool, typer.Option("--clear-cache", help="First remove the run's preprocessed volumes, and nothing else.")
    ] = False,
    plugin: PluginFiles = None,
) -> None:
    """Find out all that can be known before the first step: config, plugins, every header and voxel, one tiny step."""
    from medtrans import pipeline
    from medtrans.atomic import write_json

    configs, overrides = _split(sources)
    if json_file is not None:
        _require_folder(json_file)
    if clear_cache:
        freed = pipeline.clear_cache(configs, overrides, plugins=plugin or ())
        typer.echo(f"cache removed: {freed:,} bytes", err=True)
    report = pipeline.check(configs, overrides, plugins=plugin or ())
    if json_file is not None:
        write_json(json_file, report.as_data())
    typer.echo(str(report))
    if not report.ready:
        raise typer.Exit(report.exit_code)


@app.command()
def bench(
    sources: Sources,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Training steps that count.")] = 5,
    against: Annotated[
        list[Against] | None,
        typer.Option(
            "--against",
            help="reference: the plain training step and that of the paper's code; torchio, monai: their loader and "
            "windows.",
        ),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the report as JSON; - writes it to stdout.")
    ] = None,
    plugin: PluginFiles = None,
) -> None:
    """Measure a config on this machine: ceilings, a training step by part, the loader, windows; no run is made."""
    from medtrans.bench.report import measure
    from medtrans.bench.shown import tables
    from medtrans.config import load_config

    configs, overrides = _split(sources)
    on_stdout = json_file == Path("-")
    if json_file is not None and not on_stdout:
        _require_folder(json_file)
    found = measure(
        load_config(configs, overrides, plugins=plugin or ()),
        steps=steps,
        against=[one.value for one in against or ()],
        say=lambda doing: typer.echo(f"measuring: {doing}", err=True),
    )
    if on_stdout:
        import json

        typer.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    if json_file is not None:
        from medtrans.atomic import write_json

        write_json(json_file, found)
    for table in tables(found):
        _print(table)


@app.command()
def init(
    root: Annotated[Path, typer.Argument(metavar="ROOT", help="Folder that holds the images.")],
    output: Annotated[Path, typer.Option("--output", help="File to write; never overwritten.")] = Path("config.yaml"),
) -> None:
    """Write a commented starter config from the names of the images below a folder."""
    from medtrans.starter import write_starter

    starter = write_starter(root, output)
    for note in starter.notes:
        typer.echo(note, err=True)
    typer.echo(str(starter.path))


@app.command()
def predict(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a trained run, or of an export.")],
    source: Annotated[Path | None, typer.Argument(metavar="[IN]", help="An image, or a folder of images.")] = None,
    output: Annotated[Path | None, typer.Argument(metavar="OUT", help="File or folder to write.")] = None,
    image: Annotated[
        list[str] | None, typer.Option("--image", help="For several sources: MODALITY=FILE, once for each.")
    ] = None,
    mask: Annotated[
        Path | None, typer.Option("--mask", help="Mask of the image, or a folder of masks of the images' names.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are there.")] = False,
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
    from medtrans.prediction import predict as predict_files

    if image and source is not None and output is None:
        source, output = None, source
    if output is None or (source is None and not image):
        raise ConfigError("predict needs RUN IN OUT, or RUN OUT with --image MODALITY=FILE for each source")
    for written in predict_files(
        run_folder,
        source,
        output,
        images=_pairs(image or []),
        mask=mask,
        overwrite=overwrite,
        strict=strict,
        stream=stream,
        plugins=plugin or (),
    ):
        typer.echo(str(written))


@app.command()
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
    from medtrans.tables import summary_table

    if run_folder is not None:
        if any((prediction, target, mask, image, metric, option, limits, unit, output, overwrite)) or (
            protocol != "native"
        ):
            raise ConfigError("evaluate RUN takes all from the run's config; --prediction and the like go without RUN")
        from medtrans.pipeline import evaluate as evaluate_run

        folder = evaluate_run(run_folder, plugins=plugin or ())
        if _leads():
            _print(summary_table(folder.read_json(folder.summary)))
        return
    if prediction is None or target is None:
        raise ConfigError("evaluate needs RUN, or --prediction FOLDER and --target FOLDER")
    from medtrans.folder_evaluation import Scoring, evaluate_folders

    scored = evaluate_folders(
        prediction,
        target,
        mask=mask,
        images=_pairs(image or [], example="labels=FOLDER"),
        scoring=Scoring(metric or (), Scoring.options_from(option or []), _protocol(protocol), limits, unit),
        output=output,
        overwrite=overwrite,
        plugins=plugin or (),
    )
    _print(summary_table(scored.summary, {row.label: row.case for row in scored.rows}))


@app.command()
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

    from medtrans.comparison_tables import as_latex, as_markdown
    from medtrans.run_comparison import compare_runs

    if table not in ("markdown", "latex", "json"):
        raise ConfigError(f"--format {table}: expected markdown, latex or json")
    comparison = compare_runs(run_folders, metric or ())
    texts = {
        "markdown": as_markdown(comparison),
        "latex": as_latex(comparison),
        "json": json.dumps(comparison, indent=2, ensure_ascii=False) + "\n",
    }
    if output is not None:
        from medtrans.comparison_tables import write_tables

        write_tables(output, texts)
    typer.echo(texts[table], nl=False)


@app.command()
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
    from medtrans.export import export as export_run

    typer.echo(str(export_run(run_folder, output, licence=licence, overwrite=overwrite, plugins=plugin or ())))


@app.command()
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
    from medtrans.pipeline import downstream as assess_run
    from medtrans.tables import downstream_table

    folder = assess_run(run_folder or Path(), settings or (), overwrite=overwrite, plugins=plugin or ())
    _print(downstream_table(folder.read_json(folder.downstream)))
    typer.echo(f"results: {folder.downstream}")


@app.command()
def report(
    run_folders: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Evaluated runs; several are compared.")],
    viewer: Annotated[
        Viewer,
        typer.Option("--viewer", help="inline: carry an interactive viewer of the shown cases, 2.3 MB or more."),
    ] = Viewer.none,
    output: Annotated[
        Path, typer.Option("--output", metavar="FILE", help="Page to write that compares several runs.")
    ] = Path("comparison.html"),
) -> None:
    """Write a run's report.html again, or a page that compares several runs."""
    from medtrans.runfolder import RunFolder

    folders = [RunFolder.existing(path) for path in run_folders]
    if len(folders) == 1:
        from medtrans.runreport import write_report

        typer.echo(str(write_report(folders[0], viewer=viewer.value)))
        return
    if viewer is not Viewer.none:
        raise ConfigError("--viewer inline: a comparison carries no viewer; give one RUN")
    from medtrans.comparison_report import write_comparison

    typer.echo(str(write_comparison(folders, output)))


@app.command()
def selftest(
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Check, within a minute, that medtrans keeps its promises on this machine; exit code 5 where it does not."""
    from rich.console import Console

    from medtrans.selftest.shown import as_json as outcomes_as_json
    from medtrans.selftest.shown import show as show_outcomes
    from medtrans.selftest.suite import run_checks

    if as_json:
        text, passed = outcomes_as_json(run_checks())
        typer.echo(text)
    else:
        passed = show_outcomes(run_checks(), Console())
    if not passed:
        raise typer.Exit(5)


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
    limit: ImportLimit = None,
) -> None:
    """List the installed plugins, what each offers, and what is wrong with it."""
    if context.invoked_subcommand is None:
        _list_plugins(as_json, strict, limit)


@plugins_app.command("list")
def plugins_list(
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Fail where a plugin is broken.")] = False,
    limit: ImportLimit = None,
) -> None:
    """List the installed plugins, what each offers, and what is wrong with it."""
    _list_plugins(as_json, strict, limit)


@plugins_app.command("test")
def plugins_test(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A plugin, or PLUGIN:COMPONENT for one component.")],
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    plugin: PluginFiles = None,
) -> None:
    """Try every component of a plugin against the contract of its kind, with a verdict on each rule."""
    from medtrans.testing.whole_plugin import plugin_text, plugin_verdicts

    text, broken = plugin_text(plugin_verdicts(name, plugin or ()), as_json=as_json)
    typer.echo(text, nl=False)
    if broken:
        raise typer.Exit(4)


@plugins_app.command("new")
def plugins_new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What stands before the colon in configs.")],
    kind: Annotated[str, typer.Option("--kind", help="What it offers: generator, loss, dataset, ...")] = "generator",
    output: Annotated[Path | None, typer.Option("--output", help="Folder to make; ./NAME if not given.")] = None,
) -> None:
    """Write an installable plugin package to start from, with tests that pass."""
    from medtrans.scaffold import write_plugin

    typer.echo(str(write_plugin(name, kind, output or Path(name))))


def _require_folder(json_file: Path) -> None:
    if not json_file.parent.is_dir():
        raise ConfigError(f"--json {json_file}: there is no folder {json_file.parent}; make it, or correct the path")


def _score_labels(prediction: Path, target: Path, labels: list[str], output: Path | None) -> None:
    from medtrans.atomic import write_json
    from medtrans.evaluation import write_metrics_csv
    from medtrans.label_scores import score_label_maps
    from medtrans.tables import summary_table

    summary, rows = score_label_maps(prediction, target, labels=_classes(labels) or None)
    shown = {"cases": len(rows), "metrics": summary, "baselines": {}}
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        write_metrics_csv(output / "metrics.csv", rows)
        write_json(output / "summary.json", {**shown, "warnings": []})
    _print(summary_table(shown))


def _classes(labels: list[str]) -> dict[str, tuple[int, ...]]:
    classes = {}
    for label in labels:
        name, equals, values = label.partition("=")
        parts = values.split(",")
        if not (name and equals and all(part.strip().isdigit() for part in parts)):
            raise ConfigError(f"--label {label}: expected NAME=LABEL[,LABEL], such as whole_tumour=1,2,4")
        classes[name] = tuple(int(part) for part in parts)
    return classes


def main() -> None:
    """The console script: a fault of the user's is a message and an exit code, anything else a traceback."""
    choose_repeatable_kernels()
    try:
        app()
    except MedtransError as error:
        for fault in error.faults:
            print(f"{_rank()}{fault}", file=sys.stderr)  # noqa: T201 -- the message for the user
        raise SystemExit(error.exit_code) from None


def _leads() -> bool:
    """Whether this process is the one that shows results."""
    from medtrans.launchers import place

    return place().rank == 0


def _rank() -> str:
    """Who speaks, where several processes work together."""
    from medtrans.launchers import place

    try:
        here = place()
    except SetupError:
        return ""
    return f"rank {here.rank}: " if here.count > 1 else ""


def _list_plugins(as_json: bool, strict: bool, limit_s: float | None) -> None:
    from medtrans import listing

    text, problems = listing.plugins(as_json=as_json, limit_s=limit_s)
    typer.echo(text, nl=False)
    if strict and problems:
        raise typer.Exit(4)


def _split(sources: list[str]) -> tuple[list[str], list[str]]:
    return [one for one in sources if "=" not in one], [one for one in sources if "=" in one]


def _protocol(name: str) -> Protocol:
    from medtrans.faults import did_you_mean
    from medtrans.protocols import PROTOCOLS

    if name not in PROTOCOLS:
        raise ConfigError(f"--protocol {name}: expected one of {', '.join(PROTOCOLS)}{did_you_mean(name, PROTOCOLS)}")
    return cast("Protocol", name)


def _pairs(images: list[str], *, example: str = "t1=scan.nii.gz") -> dict[str, Path]:
    pairs = {}
    for image in images:
        modality, equals, path = image.partition("=")
        if not equals:
            raise ConfigError(f"--image {image}: expected MODALITY=PATH, such as {example}")
        pairs[modality] = Path(path)
    return pairs


def _print(table: object) -> None:
    from rich.console import Console

    Console().print(table)
