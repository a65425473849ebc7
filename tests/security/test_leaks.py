"""A subject or a scan in two splits is always found, and never where there is none, in random manifests."""

from __future__ import annotations

import csv
import gzip
import os
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medtrans.config.loading import load_config
from medtrans.data.datamodule import DataModule, load_cohort
from medtrans.errors import DataError
from medtrans.volume import Volume, read, write
from tests.helpers.pairs import config_of

SPLITS = ("train", "validation", "test")
NAMES = ("Ann Lee", "Jörg", "straße 7", "P-0012", "ÅSE", "o'Neil", "x_1", "Müller  A")


@dataclass
class Row:
    """One line of a manifest."""

    case: str
    subject: str
    split: str
    t1: Path
    t2: Path


def other_split(rng: np.random.Generator, row: Row) -> str:
    return str(rng.choice([split for split in SPLITS if split != row.split]))


def scan(rng: np.random.Generator, path: Path) -> Path:
    write(Volume(rng.integers(0, 900, (6, 7, 8)).astype(np.int16), np.eye(4)), path)
    return path


def visit(rng: np.random.Generator, root: Path, subject: str, split: str) -> Row:
    name = f"v{len(list(root.iterdir()))}"
    return Row(name, subject, split, scan(rng, root / f"{name}_t1.nii.gz"), scan(rng, root / f"{name}_t2.nii.gz"))


def written_otherwise(rng: np.random.Generator, name: str) -> str:
    """The same name to a person."""
    ways: list[Callable[[str], str]] = [
        str.upper,
        str.lower,
        lambda text: f"  {text} ",
        lambda text: text.replace(" ", "   "),
        lambda text: unicodedata.normalize("NFD", text),
    ]
    changed = {way(name) for way in ways} - {name}
    return str(rng.choice(sorted(changed)))


def subject_twice(rng: np.random.Generator, root: Path, row: Row) -> Row:
    return visit(rng, root, row.subject, other_split(rng, row))


def subject_written_otherwise(rng: np.random.Generator, root: Path, row: Row) -> Row:
    return visit(rng, root, written_otherwise(rng, row.subject), other_split(rng, row))


def link_to_the_file(rng: np.random.Generator, root: Path, row: Row) -> Row:
    leaked = visit(rng, root, "a stranger", other_split(rng, row))
    leaked.t1.unlink()
    link = leaked.t1.symlink_to if rng.random() < 0.5 else leaked.t1.hardlink_to
    link(row.t1)
    return leaked


def same_file(rng: np.random.Generator, root: Path, row: Row) -> Row:
    leaked = visit(rng, root, "a stranger", other_split(rng, row))
    return replace(leaked, t1=row.t1, t2=row.t2)


def same_voxels(rng: np.random.Generator, root: Path, row: Row) -> Row:
    """Renamed, in another voxel order, type and place."""
    leaked = visit(rng, root, "a stranger", other_split(rng, row))
    original = read(row.t2)
    turned = original.affine @ np.array([[-1, 0, 0, original.shape[0] - 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    turned[:3, 3] += rng.integers(-1, 2, 3)
    write(Volume(np.flip(original.data, 0).astype(np.float32), turned), leaked.t2)
    return leaked


def recompressed(rng: np.random.Generator, root: Path, row: Row) -> Row:
    leaked = visit(rng, root, "a stranger", other_split(rng, row))
    leaked.t1.write_bytes(gzip.compress(gzip.decompress(row.t1.read_bytes()), 1, mtime=7))
    return leaked


LEAKS = (subject_twice, subject_written_otherwise, link_to_the_file, same_file, same_voxels, recompressed)


def manifest(rng: np.random.Generator, root: Path) -> list[Row]:
    """Subjects of all splits, some with a second visit, and some copies that stay in their split: all allowed."""
    root.mkdir()
    names = [str(name) for name in rng.permutation(NAMES)[: rng.integers(4, 7)]]
    rows = [visit(rng, root, name, SPLITS[number % 3]) for number, name in enumerate(names)]
    if rng.random() < 0.5:
        rows.append(visit(rng, root, written_otherwise(rng, rows[0].subject), rows[0].split))
    if rng.random() < 0.5:
        own = visit(rng, root, f"{rows[1].subject} jr", rows[1].split)
        own.t1.write_bytes(rows[1].t1.read_bytes())
        rows.append(own)
    return rows


def found_before_a_run(rows: list[Row], root: Path) -> str:
    """What is refused before the first step."""
    with (root / "cases.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(("case", "subject", "split", "t1", "t2"))
        table.writerows((row.case, row.subject, row.split, row.t1.name, row.t2.name) for row in rows)
    config: dict[str, Any] = config_of(root, root / "run")
    config["dataset"] = {"name": "table", "options": {"path": str(root / "cases.csv")}}
    config["split"] = {"by": "column"}
    experiment = load_config([config])
    try:
        cohort, _ = load_cohort(experiment)
        DataModule(experiment, cohort, root / "cache").prepare()
    except DataError as error:
        return str(error)
    return ""


MANY = pytest.param(range(6, 200), marks=[pytest.mark.soak, pytest.mark.timeout(1200)], id="many")


@pytest.mark.parametrize("seeds", [pytest.param(range(6), id="each kind"), MANY])
def test_every_planted_leak_is_found_and_nothing_else(
    seeds: range, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)  # thousands of tiny files, and no power failure is tested here
    for number in seeds:
        rng = np.random.default_rng(number)
        root = tmp_path / str(number)
        rows = manifest(rng, root)
        assert found_before_a_run(rows, root) == "", number
        leak = LEAKS[number % len(LEAKS)]
        leaked = leak(rng, root, rows[int(rng.integers(len(rows)))])
        rows.insert(int(rng.integers(len(rows) + 1)), leaked)
        told = found_before_a_run(rows, root)
        assert "scores would be too good" in told, (number, leak.__name__, told)
        assert f'case "{leaked.case}"' in told, (number, leak.__name__, told)
