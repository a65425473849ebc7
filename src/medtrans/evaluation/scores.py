"""Scores of one case, what their columns mean, and the table that keeps them."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from medtrans.errors import DataError
from medtrans.utils.files import write_text
from medtrans.utils.tables import as_given, table_text

if TYPE_CHECKING:
    from pathlib import Path

    from medtrans.volume import Volume

__all__ = ["CaseScores", "Column", "read_metrics_csv", "target_sha", "write_metrics_csv"]


@dataclass(frozen=True)
class CaseScores:
    """The scores of one case.

    Args:
        label: "case_0001": the case's number, which may leave the site.
        case: the case's name, which stays with the data.
        subject: whose it is.
        values: by column; infinite where a metric is (PSNR of identical images), NaN where it is undefined.
        target_sha: of the target the case was scored against.
    """

    label: str
    case: str
    subject: str
    values: Mapping[str, float]
    target_sha: str


@dataclass(frozen=True)
class Column:
    """What a reader must know about one column of scores.

    Args:
        unit: such as "dB" or "HU"; "" for none.
        higher_is_better: the direction.
        definition: the formula in one line.
    """

    unit: str
    higher_is_better: bool
    definition: str


def target_sha(*targets: Volume) -> str:
    """SHA-256 of the targets a case is scored against: shape, affine and voxels (as float32) as stored.

    Equal hashes mean that two runs were scored against the same images on the same grid.
    """
    digest = hashlib.sha256()
    for target in targets:
        digest.update(repr(tuple(target.data.shape)).encode())
        digest.update(np.ascontiguousarray(target.affine, dtype="<f8").tobytes())
        digest.update(np.ascontiguousarray(target.data, dtype="<f4").data)
    return digest.hexdigest()


def write_metrics_csv(path: Path, rows: Sequence[CaseScores]) -> None:
    """A row a case, whole or not at all; an infinite score is "inf", an undefined one "nan"."""
    columns = list(dict.fromkeys(name for row in rows for name in row.values))
    table: list[list[str]] = [["case", "label", "subject", *columns, "target_sha"]]
    for row in rows:
        values = [repr(float(row.values[name])) for name in columns]
        table.append([row.case, row.label, row.subject, *values, row.target_sha])
    write_text(path, table_text(table))


def read_metrics_csv(path: Path) -> list[CaseScores]:
    """What `write_metrics_csv` wrote.

    Raises:
        DataError: the file is no such table.
    """
    try:
        text = path.read_text(encoding="utf-8")
        reader = csv.DictReader(io.StringIO(text, newline=""))
        header = reader.fieldnames or ()
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as a table of scores ({error}); evaluate the run again.") from error
    fixed = ("case", "label", "subject", "target_sha")
    missing = [name for name in fixed if name not in header]
    if missing:
        raise DataError(f"{path}: no table of scores: column {', '.join(missing)} is missing; evaluate the run again.")
    names = [name for name in header if name not in fixed]
    try:
        return [
            CaseScores(
                row["label"],
                as_given(row["case"]),
                as_given(row["subject"]),
                {as_given(name): float(row[name]) for name in names},
                row["target_sha"],
            )
            for row in reader
        ]
    except (TypeError, ValueError, csv.Error) as error:
        raise DataError(f"{path}, row {reader.line_num}: {error}; evaluate the run again.") from error
