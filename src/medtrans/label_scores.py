"""Owns the scoring of label maps that somebody else's segmenter made, against the true ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medtrans.components import Metric
from medtrans.errors import ConfigError, DataError
from medtrans.evaluation import target_sha
from medtrans.faults import capped
from medtrans.lookup import component
from medtrans.progress import progress_over
from medtrans.regrid import regrid
from medtrans.statistics import CaseScores, Column, summarise
from medtrans.volume import read

__all__ = ["score_label_maps"]

_ENDINGS = (".nii.gz", ".nii", ".mha", ".nrrd")
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
    pairs = _pairs(predictions, targets)
    classes = labels or {str(value): (value,) for value in _values([true for _, _, true in pairs])}
    metrics: dict[str, tuple[Metric, tuple[int, ...]]] = {
        f"{metric}_{name}": (component("metric", metric).load()(label=1), tuple(of))
        for name, of in classes.items()
        for metric in ("dice", "hd95")
    }
    rows = [_scores(name, mine, true, metrics) for name, mine, true in progress_over(pairs, "label maps")]
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


def _pairs(predictions: Path, targets: Path) -> list[tuple[str, Path, Path]]:
    for option, folder in (("--prediction", predictions), ("--target", targets)):
        if not folder.is_dir():
            raise ConfigError(f"{option} {folder}: no such folder; give a folder of label maps")
    predicted, true = _by_stem(predictions), _by_stem(targets)
    faults = [f"{targets}: no label map '{stem}', of which there is a prediction" for stem in predicted.keys() - true]
    faults += [f"{predictions}: no prediction '{stem}', of which there is a target" for stem in true.keys() - predicted]
    if not true and not faults:
        faults.append(f"{targets}: holds no label map ({', '.join(_ENDINGS)})")
    if faults:
        raise DataError(*capped(sorted(faults)))
    return [(stem, predicted[stem], path) for stem, path in true.items()]


def _by_stem(folder: Path) -> dict[str, Path]:
    return {
        path.name.removesuffix(ending): path
        for path in sorted(folder.iterdir())
        for ending in _ENDINGS
        if path.name.endswith(ending) and not (ending == ".nii" and path.name.endswith(".nii.gz"))
    }


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
