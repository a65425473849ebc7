"""The scoring of label maps that somebody else's segmenter made, against the true ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medtrans.errors import ConfigError, DataError
from medtrans.evaluation.folder_pairs import images_by_name
from medtrans.evaluation.scores import CaseScores, Column, target_sha
from medtrans.evaluation.statistics import summarise
from medtrans.plugins.interfaces import Metric
from medtrans.plugins.registry import component
from medtrans.utils.progress import progress_over
from medtrans.volume import read
from medtrans.volume.resampling import regrid

__all__ = ["score_label_maps"]


_MOST_LABELS = 200


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
    for option, folder in (("--prediction", predictions), ("--target", targets)):
        if not folder.is_dir():
            raise ConfigError(f"{option} {folder}: no such folder; give a folder of label maps")
    pairs = images_by_name({"prediction": predictions, "target": targets})
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
        name: Column(metric.unit, metric.higher_is_better, metric.definition.replace("label 1", _spoken(of)))
        for name, (metric, of) in metrics.items()
    }
    return summarise(rows, columns), rows


def _scores(
    name: str, predicted: Path, true: Path, metrics: Mapping[str, tuple[Metric, tuple[int, ...]]]
) -> CaseScores:
    target, prediction = read(true), read(predicted)
    _require_labels(target.data, true)
    _require_labels(prediction.data, predicted)
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
        _require_labels(data, path)
        found |= {int(value) for value in np.unique(data)}
    found.discard(0)
    if not found:
        raise DataError("the targets hold no label above 0: there is nothing to score")
    return sorted(found)


def _require_labels(data: np.ndarray, path: Path) -> None:
    values = np.unique(data)
    if len(values) > _MOST_LABELS or not np.array_equal(values, np.rint(values)):
        raise DataError(f"{path}: holds {len(values)} different values, not all whole numbers: no label map")


def _spoken(labels: Sequence[int]) -> str:
    return f"label {labels[0]}" if len(labels) == 1 else f"labels {', '.join(map(str, labels))}"
