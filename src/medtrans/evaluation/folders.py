"""`medtrans evaluate --prediction --target`: the scores of anybody's images, paired by file name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from medtrans.config.protocols import PROTOCOLS, Protocol
from medtrans.errors import ConfigError, DataError, SetupError
from medtrans.evaluation.folder_pairs import images_by_name
from medtrans.evaluation.scores import CaseScores, target_sha, write_metrics_csv
from medtrans.evaluation.scoring import columns_of, score
from medtrans.evaluation.statistics import summary_of
from medtrans.plugins.interfaces import DetailedMetric, Metric
from medtrans.plugins.options import build, check_options, facts_of
from medtrans.plugins.registry import Registry
from medtrans.utils.files import write_json
from medtrans.utils.messages import capped
from medtrans.utils.progress import progress_over
from medtrans.volume import Grid, Volume, read, read_header
from medtrans.volume.affine import TOLERANCE_VOXELS

__all__ = ["DEFAULT_METRICS", "FolderScores", "Scoring", "evaluate_folders"]


DEFAULT_METRICS = ("psnr", "ssim", "nmse", "mae")

_NAME = "target"


@dataclass(frozen=True)
class Scoring:
    """How folders are scored.

    Args:
        metrics: names of components; none takes the protocol's, or psnr, ssim, nmse and mae under native.
        options: name of a metric to its options.
        protocol: "native", "synthrad2023" or "synthrad2025".
        limits: intensities both images are clipped to, whose width is the data range; None clips nothing, and
            metrics that need a range are refused.
        unit: of the intensities, such as HU.
    """

    metrics: Sequence[str] = ()
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    protocol: Protocol = "native"
    limits: tuple[float, float] | None = None
    unit: str = ""

    @staticmethod
    def options_from(texts: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Options by metric from texts such as `ssim.window=5`; values are YAML.

        Raises:
            ConfigError: a text is not of that form.
        """
        found: dict[str, dict[str, Any]] = {}
        for text in texts:
            place, equals, value = text.partition("=")
            metric, dot, name = place.rpartition(".")
            if not (equals and dot and metric and name):
                raise ConfigError(f"--option {text}: expected METRIC.OPTION=VALUE, such as ssim.window=5")
            try:
                found.setdefault(metric, {})[name] = yaml.safe_load(value)
            except yaml.YAMLError as error:
                raise ConfigError(f"--option {text}: the value is no YAML: {error}") from error
        return found


@dataclass(frozen=True)
class FolderScores:
    """What scoring gave: a row a case, and the content of summary.json."""

    rows: Sequence[CaseScores]
    summary: Mapping[str, Any]


def evaluate_folders(
    prediction: Path,
    target: Path,
    *,
    mask: Path | None = None,
    images: Mapping[str, Path] | None = None,
    scoring: Scoring | None = None,
    output: Path | None = None,
    overwrite: bool = False,
    plugins: Sequence[Path] = (),
) -> FolderScores:
    """Score the images of a folder against those of another that have the same names.

    An image's name is that of its file without the ending; every name must be in every folder, and all images of a name
    must lie on one grid: nothing is resampled.

    Args:
        prediction: folder of predicted images.
        target: folder of true images.
        mask: folder of masks; voxels above 0 count.
        images: further folders that metrics look at, by modality, such as "labels".
        scoring: by what they are scored.
        output: folder for metrics.csv and summary.json; made if need be.
        overwrite: replace these files where they are there.
        plugins: single-file plugins to have at hand.

    Raises:
        ConfigError: folders, options or metrics do not fit together, or the output is there.
        DataError: files are missing, cannot be read, or lie on different grids; all of them are named, and nothing is
            written.
        SetupError: a metric cannot be made.
    """
    scoring = scoring or Scoring()
    folders = {"prediction": prediction, "target": target, **({"mask": mask} if mask else {}), **(images or {})}
    faults = [f"{folder}: there is no such folder ({role})" for role, folder in folders.items() if not folder.is_dir()]
    written = [] if output is None else [output / "metrics.csv", output / "summary.json"]
    if not overwrite:
        faults += [f"{path}: is there already; give --overwrite to replace it" for path in written if path.exists()]
    faults += _scoring_faults(scoring, folders)
    if faults:
        raise ConfigError(*faults)
    metrics = _metrics(scoring, folders, plugins)
    pairs = images_by_name(folders)
    _check_grids(pairs)
    rows = _rows(pairs, metrics, scoring)
    columns = columns_of({_NAME: metrics}, {_NAME: _unit(scoring)})
    summary = summary_of(rows, {}, columns, protocol=scoring.protocol, scored_in={_NAME: _scored_in(scoring)})
    if output is not None:
        try:
            output.mkdir(parents=True, exist_ok=True)
            write_metrics_csv(output / "metrics.csv", rows)
            write_json(output / "summary.json", summary)
        except OSError as error:
            raise SetupError(f"{output}: cannot be written ({error.strerror}); choose another --output") from error
    return FolderScores(rows, summary)


def _scoring_faults(scoring: Scoring, folders: Mapping[str, Path]) -> list[str]:
    published = PROTOCOLS[scoring.protocol]
    faults = []
    if published.zero_outside:
        faults.append(
            f"--protocol {scoring.protocol} looks at source images too: set `protocol: {scoring.protocol}` in a run's "
            "config and evaluate that run"
        )
    if published.mask == "required" and "mask" not in folders:
        faults.append(f"--protocol {scoring.protocol} scores inside a mask: give --mask")
    if published.limits is not None and (scoring.limits is not None or scoring.unit not in ("", "HU")):
        faults.append(f"--protocol {scoring.protocol} has its own range, in HU: leave --range and --unit out")
    if scoring.limits is not None and not scoring.limits[0] < scoring.limits[1]:
        low, high = scoring.limits
        faults.append(f"--range {low:g} {high:g}: expected the lower end first")
    return faults


def _slots(scoring: Scoring) -> dict[str, tuple[str, Mapping[str, Any]]]:
    """The metrics by key: component name and options."""
    published = PROTOCOLS[scoring.protocol].metrics
    named = scoring.metrics or (() if published else DEFAULT_METRICS)
    slots = {key: (slot["name"], slot.get("options", {})) for key, slot in published.items()}
    taken = [key for key in (*named, *scoring.options) if key in slots]
    if taken:
        raise ConfigError(
            *(f"{key}: protocol {scoring.protocol} says what it is; leave it out" for key in dict.fromkeys(taken))
        )
    stray = [key for key in scoring.options if key not in named]
    if stray:
        raise ConfigError(*(f"--option {key}: no such metric is scored; add --metric {key}" for key in stray))
    return slots | {key: (key, scoring.options.get(key, {})) for key in named}


def _metrics(scoring: Scoring, folders: Mapping[str, Path], plugins: Sequence[Path]) -> dict[str, Metric]:
    registry = Registry(tuple(plugins))
    limits = PROTOCOLS[scoring.protocol].limits or scoring.limits
    facts = {} if limits is None else {"data_range": limits[1] - limits[0], "data_low": limits[0]}
    metrics: dict[str, Metric] = {}
    faults: list[str] = []
    for key, (name, options) in _slots(scoring).items():
        try:
            component = registry.find("metric", name).component
        except ConfigError as error:
            faults += error.faults
            continue
        checked, problems = check_options(component, "metric", options)
        faults += [f"--option {key}.{'.'.join(map(str, problem.path))}: {problem.message}" for problem in problems]
        if limits is None and facts_of(component, "metric"):
            faults.append(
                f"{key}: needs the range that intensities can take: give --range LOW HIGH, the same for all cases, "
                "such as --range -1024 3000 for CT"
            )
        if not problems and (limits is not None or not facts_of(component, "metric")):
            metrics[key] = build(component, "metric", checked, facts)
    faults += [
        f"{key}: looks at {modality}: give --image {modality}=FOLDER"
        for key, metric in metrics.items()
        if isinstance(metric, DetailedMetric)
        for modality in (*metric.images, *metric.label_maps)
        if modality not in folders
    ]
    if faults:
        raise ConfigError(*faults)
    return metrics


def _check_grids(pairs: Mapping[str, Mapping[str, Path]]) -> None:
    faults: list[str] = []
    for name, files in pairs.items():
        grids: dict[str, Grid] = {}
        for role, path in files.items():
            try:
                grids[role] = read_header(path).grid
            except DataError as error:
                faults += error.faults
        true = grids.pop("target", None)
        if true is not None:
            faults += [fault for role, grid in grids.items() for fault in _grid_faults(name, role, grid, true)]
    if faults:
        raise DataError(*capped(faults))


def _grid_faults(name: str, role: str, grid: Grid, true: Grid) -> Iterator[str]:
    if grid.shape != true.shape:
        yield f"{name}: the {role} has {_by(grid.shape)} voxels, the target {_by(true.shape)}; bring both onto one grid"
    elif (apart := grid.distance_mm(true)) > TOLERANCE_VOXELS * min(true.spacing_mm):
        yield f"{name}: the {role} lies up to {apart:.3g} mm away from the target; bring both onto one grid"


def _rows(pairs: Mapping[str, Mapping[str, Path]], metrics: Mapping[str, Metric], scoring: Scoring) -> list[CaseScores]:
    rows: list[CaseScores] = []
    faults: list[str] = []
    for number, (name, files) in enumerate(progress_over(list(pairs.items()), "scoring"), 1):
        try:
            volumes = {role: read(path) for role, path in files.items()}
            values = _scored(volumes, metrics, scoring)
        except DataError as error:
            faults += [fault if name in fault else f"{name}: {fault}" for fault in error.faults]
        else:
            sha = target_sha(volumes["target"])
            rows.append(CaseScores(f"case_{number:04d}", name, name, values, sha))
    if faults:
        raise DataError(*capped(faults))
    return rows


def _scored(volumes: Mapping[str, Volume], metrics: Mapping[str, Metric], scoring: Scoring) -> dict[str, float]:
    arrays = {role: volume.data.astype(np.float32) for role, volume in volumes.items()}
    prediction, target = arrays["prediction"], arrays["target"]
    if scoring.limits is not None:
        # NaN stays NaN, which scoring refuses.
        prediction, target = (np.clip(one, *scoring.limits) for one in (prediction, target))
    mask = arrays.get("mask")
    return score(
        prediction[None],
        target[None],
        None if mask is None else mask > 0,
        volumes["target"].spacing_mm,
        {_NAME: metrics},
        images={role: array for role, array in arrays.items() if role not in ("prediction", "target", "mask")},
    )


def _unit(scoring: Scoring) -> str:
    return "HU" if PROTOCOLS[scoring.protocol].limits is not None else scoring.unit


def _scored_in(scoring: Scoring) -> str:
    limits = PROTOCOLS[scoring.protocol].limits or scoring.limits
    if limits is None:
        return f"intensities as stored {_unit(scoring)}".rstrip()
    place = f"[{limits[0]:g}, {limits[1]:g}] {_unit(scoring)}".rstrip()
    return f"{place}, clipped" if scoring.limits is not None else f"{place}, clipped where a metric says so"


def _by(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))
