"""Scores of anybody's images or label maps, in folders that are paired by file name."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from medtrans.config.protocols import PROTOCOLS, Protocol
from medtrans.data.checks.intensities import hounsfield_doubt
from medtrans.errors import ConfigError, DataError, SetupError
from medtrans.evaluation.scores import CaseScores, Column, target_sha, write_metrics_csv
from medtrans.evaluation.scoring import columns_of, score
from medtrans.evaluation.statistics import summarise, summary_of
from medtrans.plugins.interfaces import DetailedMetric, Metric
from medtrans.plugins.options import build, check_options, facts_of
from medtrans.plugins.registry import Registry, component
from medtrans.utils.files import write_json
from medtrans.utils.messages import capped, listed
from medtrans.utils.progress import progress_over
from medtrans.volume import (
    IMAGE_ENDINGS,
    NO_RULES,
    Grid,
    ReadingRules,
    Volume,
    is_image_file,
    read,
    read_header,
    stem_of,
)
from medtrans.volume.affine import TOLERANCE_VOXELS
from medtrans.volume.resampling import regrid

__all__ = ["DEFAULT_METRICS", "FolderScores", "Scoring", "evaluate_folders", "score_label_maps"]


DEFAULT_METRICS = ("psnr", "ssim", "nmse", "mae")

_log = logging.getLogger("medtrans")

_NAME = "target"
_MOST_LABELS = 200


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

    @property
    def window(self) -> tuple[float, float] | None:
        """What the data range is the width of: the protocol's limits, else these."""
        return PROTOCOLS[self.protocol].limits or self.limits

    @property
    def scored_unit(self) -> str:
        """That of scores: a protocol with limits of its own gives them in HU."""
        return "HU" if PROTOCOLS[self.protocol].limits is not None else self.unit

    @property
    def scored_in(self) -> str:
        """The intensities that scores refer to, in words."""
        if self.window is None:
            return f"intensities as stored {self.scored_unit}".rstrip()
        place = f"[{self.window[0]:g}, {self.window[1]:g}] {self.scored_unit}".rstrip()
        return f"{place}, clipped" if self.limits is not None else f"{place}, clipped where a metric says so"

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
                raise ConfigError(f"option {text}: expected METRIC.OPTION=VALUE, such as ssim.window=5")
            try:
                found.setdefault(metric, {})[name] = yaml.safe_load(value)
            except yaml.YAMLError as error:
                raise ConfigError(f"option {text}: the value is no YAML: {error}") from error
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
    rules: ReadingRules = NO_RULES,
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
        rules: how images are read that would otherwise be refused.
        plugins: single-file plugins to have at hand.

    Raises:
        ConfigError: folders, options or metrics do not fit together, or the output is there.
        DataError: files are missing, cannot be read, or lie on different grids; all of them are named, and nothing is
            written.
        SetupError: a metric cannot be made.
    """
    scoring = scoring or Scoring()
    folders = {"prediction": prediction, "target": target, **({"mask": mask} if mask else {}), **(images or {})}
    faults = _absent(folders)
    written = [] if output is None else [output / "metrics.csv", output / "summary.json"]
    if not overwrite:
        faults += [
            f"{path}: is there already; overwrite it, or choose another folder" for path in written if path.exists()
        ]
    faults += _scoring_faults(scoring, folders)
    if faults:
        raise ConfigError(*faults)
    metrics = _metrics(scoring, folders, plugins)
    pairs = _images_by_name(folders)
    _check_grids(pairs, rules)
    rows, doubts = _rows(pairs, metrics, scoring, rules)
    for doubt in doubts:
        _log.warning("%s", doubt)
    columns = columns_of({_NAME: metrics}, {_NAME: scoring.scored_unit})
    scored_in = {_NAME: scoring.scored_in}
    summary = summary_of(rows, {}, columns, warnings=doubts, protocol=scoring.protocol, scored_in=scored_in)
    if output is not None:
        try:
            output.mkdir(parents=True, exist_ok=True)
            write_metrics_csv(output / "metrics.csv", rows)
            write_json(output / "summary.json", summary)
        except OSError as error:
            raise SetupError(f"{output}: cannot be written ({error.strerror}); choose another folder") from error
    return FolderScores(rows, summary)


def _scoring_faults(scoring: Scoring, folders: Mapping[str, Path]) -> list[str]:
    published = PROTOCOLS[scoring.protocol]
    faults = []
    if published.zero_outside:
        faults.append(
            f"protocol {scoring.protocol} looks at source images too: set `protocol: {scoring.protocol}` in a run's "
            "config and evaluate that run"
        )
    if published.mask == "required" and "mask" not in folders:
        faults.append(f"protocol {scoring.protocol} scores inside a mask: give a folder of masks")
    if published.limits is not None and (scoring.limits is not None or scoring.unit not in ("", "HU")):
        faults.append(f"protocol {scoring.protocol} has its own range, in HU: leave range and unit out")
    if scoring.limits is not None and not scoring.limits[0] < scoring.limits[1]:
        low, high = scoring.limits
        faults.append(f"range {low:g} {high:g}: expected the lower end first")
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
        raise ConfigError(*(f"option {key}: no such metric is scored; add the metric {key}" for key in stray))
    return slots | {key: (key, scoring.options.get(key, {})) for key in named}


def _metrics(scoring: Scoring, folders: Mapping[str, Path], plugins: Sequence[Path]) -> dict[str, Metric]:
    registry = Registry(tuple(plugins))
    limits = scoring.window
    facts = {} if limits is None else {"data_range": limits[1] - limits[0], "data_low": limits[0]}
    metrics: dict[str, Metric] = {}
    faults: list[str] = []
    for key, (name, options) in _slots(scoring).items():
        try:
            metric_component = registry.find("metric", name).component
        except ConfigError as error:
            faults += error.faults
            continue
        checked, problems = check_options(metric_component, "metric", options)
        faults += [f"option {key}.{'.'.join(map(str, problem.path))}: {problem.message}" for problem in problems]
        if limits is None and facts_of(metric_component, "metric"):
            faults.append(
                f"{key}: needs the range that intensities can take: give its ends, the same for all cases, such as "
                "-1024 and 3000 for CT"
            )
        if not problems and (limits is not None or not facts_of(metric_component, "metric")):
            metrics[key] = build(metric_component, "metric", checked, facts)
    faults += [
        f"{key}: looks at {modality}: give a folder of these images too"
        for key, metric in metrics.items()
        if isinstance(metric, DetailedMetric)
        for modality in (*metric.images, *metric.label_maps)
        if modality not in folders
    ]
    if faults:
        raise ConfigError(*faults)
    return metrics


def _check_grids(pairs: Mapping[str, Mapping[str, Path]], rules: ReadingRules) -> None:
    faults: list[str] = []
    for name, files in pairs.items():
        grids: dict[str, Grid] = {}
        for role, path in files.items():
            try:
                grids[role] = read_header(path, rules).grid
            except DataError as error:
                faults += error.faults
        target = grids.pop("target", None)
        if target is None:
            continue
        for role, grid in grids.items():
            if grid.shape != target.shape:
                apart = f"has {_by(grid.shape)} voxels, the target {_by(target.shape)}"
            elif (distance := grid.distance_mm(target)) > TOLERANCE_VOXELS * min(target.spacing_mm):
                apart = f"lies up to {distance:.3g} mm away from the target"
            else:
                continue
            faults.append(f"{name}: the {role} {apart}; bring both onto one grid")
    if faults:
        raise DataError(*capped(faults))


def _rows(
    pairs: Mapping[str, Mapping[str, Path]], metrics: Mapping[str, Metric], scoring: Scoring, rules: ReadingRules
) -> tuple[list[CaseScores], list[str]]:
    """A row a case, and what is doubtful about images that are said to be in HU."""
    rows: list[CaseScores] = []
    faults: list[str] = []
    doubts: list[str] = []
    for number, (name, files) in enumerate(progress_over(list(pairs.items()), "scoring"), 1):
        try:
            volumes = {role: read(path, rules) for role, path in files.items()}
            values = _scored(volumes, metrics, scoring)
        except DataError as error:
            faults += [fault if name in fault else f"{name}: {fault}" for fault in error.faults]
        else:
            sha = target_sha(volumes["target"])
            doubts += _unit_doubts(name, volumes) if scoring.scored_unit == "HU" else []
            rows.append(CaseScores(f"case_{number:04d}", name, name, values, sha))
    if faults:
        raise DataError(*capped(faults))
    return rows, capped(doubts)


def _unit_doubts(name: str, volumes: Mapping[str, Volume]) -> list[str]:
    found = {role: hounsfield_doubt(volumes[role].data) for role in ("prediction", "target")}
    return [f"{name}, {role}: {doubt}" for role, doubt in found.items() if doubt]


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


def _by(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))


def score_label_maps(
    predictions: Path, targets: Path, *, labels: Mapping[str, Sequence[int]] | None = None
) -> tuple[dict[str, dict[str, Any]], list[CaseScores]]:
    """Dice and HD95 of each class, over two folders of label maps with the same file names.

    A prediction on another grid than its target is brought onto the target's, nearest voxel, by world coordinates.

    Args:
        predictions: folder of label maps.
        targets: folder of the true ones.
        labels: the labels of each class, by its name; None takes every label above 0 that a target holds.

    Returns:
        The summary by column ("dice_<class>", "hd95_<class>", as `statistics.summarise` makes it), and the cases.

    Raises:
        ConfigError: a folder is not there.
        DataError: a file has no partner, cannot be read, or holds what no label is.
    """
    folders = {"prediction": predictions, "target": targets}
    if faults := _absent(folders):
        raise ConfigError(*faults)
    pairs = _images_by_name(folders)
    classes = labels or {str(value): (value,) for value in _values([files["target"] for files in pairs.values()])}
    metrics: dict[str, tuple[Metric, tuple[int, ...]]] = {
        f"{metric}_{name}": (component("metric", metric).load()(label=1), tuple(of))
        for name, of in classes.items()
        for metric in ("dice", "hd95")
    }
    rows = [
        _scores(name, files["prediction"], files["target"], metrics)
        for name, files in progress_over(list(pairs.items()), "label maps")
    ]
    columns = {
        name: Column(metric.unit, metric.higher_is_better, metric.definition.replace("label 1", _labels_text(of)))
        for name, (metric, of) in metrics.items()
    }
    return summarise(rows, columns), rows


def _scores(
    name: str, predicted: Path, true: Path, metrics: Mapping[str, tuple[Metric, tuple[int, ...]]]
) -> CaseScores:
    target, prediction = read(true), read(predicted)
    _check_labels(target.data, true)
    _check_labels(prediction.data, predicted)
    placed = regrid(prediction.data, prediction.grid, target.grid, nearest=True)
    values = {}
    for column, (metric, of) in metrics.items():
        mine, theirs = (np.isin(each, of).astype(np.uint8) for each in (placed, target.data))
        values[column] = float(metric(mine, theirs, None, target.grid.spacing_mm))
    return CaseScores(name, name, name, values, target_sha(target))


def _values(paths: Sequence[Path]) -> list[int]:
    found: set[int] = set()
    for path in paths:
        data = read(path).data
        _check_labels(data, path)
        found |= {int(value) for value in np.unique(data)}
    found.discard(0)
    if not found:
        raise DataError("the targets hold no label above 0: there is nothing to score")
    return sorted(found)


def _check_labels(data: np.ndarray, path: Path) -> None:
    values = np.unique(data)
    if len(values) > _MOST_LABELS or not np.array_equal(values, np.rint(values)):
        raise DataError(f"{path}: holds {len(values)} different values, not all whole numbers: no label map")


def _labels_text(labels: Sequence[int]) -> str:
    return f"label {labels[0]}" if len(labels) == 1 else f"labels {', '.join(map(str, labels))}"


def _absent(folders: Mapping[str, Path]) -> list[str]:
    return [f"{folder}: there is no such folder ({role})" for role, folder in folders.items() if not folder.is_dir()]


def _images_by_name(folders: Mapping[str, Path]) -> dict[str, dict[str, Path]]:
    """For each name, in order, the file of each folder; a name is that of a file without its ending.

    Args:
        folders: by role, such as "prediction" and "target"; all exist.

    Raises:
        DataError: there is no image, a name stands twice in a folder, or a folder lacks one that another has; all
            such faults together.
    """
    found: dict[str, dict[str, Path]] = {}
    faults: list[str] = []
    for role, folder in folders.items():
        for path in sorted(filter(is_image_file, folder.iterdir())):
            earlier = found.setdefault(stem_of(path), {}).setdefault(role, path)
            if earlier != path:
                faults.append(f"{folder}: {earlier.name} and {path.name} have the same name; keep one of them")
    if not found:
        raise DataError(f"{next(iter(folders.values()))}: holds no image ({', '.join(IMAGE_ENDINGS)})")
    for role, folder in folders.items():
        missing = [name for name in sorted(found) if role not in found[name]]
        if missing:
            faults.append(f"{folder}: {len(missing)} of {len(found)} images are missing ({role}): {listed(missing)}")
    if faults:
        raise DataError(*capped(faults))
    return dict(sorted(found.items()))
