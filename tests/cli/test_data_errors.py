"""The data that a new user most often gets wrong: the file and field each is told by, with which exit code, before
anything is written."""

from __future__ import annotations

import csv
import gzip
import json
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from medtrans.volume import Volume, read, write
from tests.conftest import Medtrans
from tests.helpers.nifti_corpus import nifti
from tests.helpers.pairs import config_of, write_pairs

Spoil = Callable[[Path, dict[str, Any]], None]
SPLITS = ("train", "train", "train", "train", "validation", "test")
VOXELS = np.random.default_rng(1).integers(0, 900, (20, 20, 20)).astype(np.int16)
WITH_NAN = np.where(np.indices(VOXELS.shape).sum(axis=0) < 1, np.nan, VOXELS).astype(np.float32)
SERIES = np.stack([VOXELS] * 3, 3)
QUATERN = {"qform_code": 1, "quatern": (0, 0, 1), "qoffset": (90.0, 12.0, 3.0)}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("sound"))


def table(root: Path, config: dict[str, Any], row: int = 0, column: str = "target", **changed: str) -> None:
    """A manifest in place of the folders, whose column "target" is named so, and one row changed."""
    rows = [
        {"case": f"c{n}", "subject": f"s{n:02d}", "split": split}
        | {"t1": f"s{n:02d}/t1.nii.gz", column: f"s{n:02d}/t2.nii.gz"}
        for n, split in enumerate(SPLITS, 1)
    ]
    rows[row] |= changed
    with (root / "cases.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    config["dataset"] = {"name": "table", "options": {"path": str(root / "cases.csv"), "columns": {"t2": "target"}}}
    config["split"] = {"by": "column"}


def same_scan_twice(root: Path, config: dict[str, Any]) -> None:
    table(root, config)
    shutil.copy(root / "s01" / "t1.nii.gz", root / "s06" / "t1.nii.gz")


def moved(root: Path, config: dict[str, Any]) -> None:
    path = root / "s03" / "t2.nii.gz"
    image = read(path)
    affine = image.affine.copy()
    affine[:3, 3] += (50, 0, 0)
    write(Volume(image.data, affine), path)


def file_of(content: bytes, root: Path, config: dict[str, Any]) -> None:
    (root / "s02" / "t1.nii.gz").write_bytes(gzip.compress(content))


def cut_short(root: Path, config: dict[str, Any]) -> None:
    path = root / "s02" / "t1.nii.gz"
    path.write_bytes(path.read_bytes()[:500])


def constant(root: Path, config: dict[str, Any], subject: str = "s02") -> None:
    path = root / subject / "t1.nii.gz"
    write(Volume(np.zeros(VOXELS.shape, np.uint8), read(path).affine), path)


def set_keys(root: Path, config: dict[str, Any], **keys: Any) -> None:
    for name, value in keys.items():
        config[name] = {**config[name], **value} if name == "preprocess" else value


def picture_for_ct(root: Path, config: dict[str, Any]) -> None:
    for path in root.rglob("t2.nii.gz"):
        image = read(path)
        write(Volume((image.data % 256).astype(np.uint8), image.affine), path)
    images = config["dataset"]["options"]["images"]
    images["ct"] = images.pop("t2")
    config["target"] = ["ct"]
    config["preprocess"]["intensity"] = {"t1": {"name": "percentile"}, "ct": {"name": "window"}}


SMALL_FRACTION = {"by": "fractions", "train": 0.9, "validation": 0.02, "test": 0.08}
WRONG: dict[str, tuple[Spoil, int, tuple[str, ...]]] = {
    # what makes it, the exit code, and where the fault is told to lie
    "a column of the manifest is missing": (partial(table, column="tgt"), 3, ("cases.csv", "target", "tgt")),
    "an image is missing": (partial(table, row=2, t1="0012.nii.gz"), 3, ("cases.csv, row 4", "t1", "0012.nii.gz")),
    "a split is empty": (partial(set_keys, split=SMALL_FRACTION), 3, ("validation", "0.02")),
    "a patient is in two splits": (partial(table, row=5, subject="S01"), 3, ('"S01"', "train", "test")),
    "one scan has two names": (same_scan_twice, 3, ("c1", "c6", "t1")),
    "a pair lies apart": (moved, 3, ('case "s03"', "50.0 mm")),
    "sform and qform disagree": (partial(file_of, nifti(VOXELS, **QUATERN)), 3, ("s02/t1.nii.gz", "reading.trust")),
    "no orientation": (partial(file_of, nifti(VOXELS, sform_code=0)), 3, ("s02/t1.nii.gz", "accept_unknown_space")),
    "a file is cut short": (cut_short, 3, ("s02/t1.nii.gz",)),
    "voxels are no numbers": (partial(file_of, nifti(WITH_NAN)), 3, ("s02/t1.nii.gz", "NaN", "fill_not_finite")),
    "a series of volumes": (partial(file_of, nifti(SERIES)), 3, ("s02/t1.nii.gz", "dim", "3 volumes")),
    "a single slice": (partial(file_of, nifti(VOXELS[..., :1])), 3, ("s02/t1.nii.gz", "dim", "20 × 20 × 1")),
    "a patch larger than a volume": (
        partial(set_keys, patch={"size": [32, 32, 16]}, preprocess={"crop": "none"}), 0, ("patch.size", "20×20×16"),
    ),
    "a patch that does not divide": (partial(set_keys, patch={"size": [18, 16, 16]}), 0, ("patch.size", "16×16×16")),
    "a constant image": (constant, 3, ('case "s02"', "t1")),
    "grey values for CT": (picture_for_ct, 3, ('case "s01"', "ct", "HU")),
}  # fmt: skip


def written(config: dict[str, Any], folder: Path) -> str:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return str(path)


@pytest.mark.parametrize(("spoil", "code", "told"), WRONG.values(), ids=WRONG.keys())
def test_a_mistake_is_told_within_ten_seconds_and_nothing_is_written(
    spoil: Spoil, code: int, told: tuple[str, ...], sound: Path, tmp_path: Path, medtrans: Medtrans
) -> None:
    root = shutil.copytree(sound, tmp_path / "data")
    config = config_of(root, tmp_path / "run")
    spoil(root, config)
    path = written(config, tmp_path)
    begin = time.process_time()
    found, out, err = medtrans("check", path)
    assert time.process_time() - begin < 10
    assert found == code
    assert [part for part in told if part not in out + err] == []
    assert {entry.name for entry in tmp_path.iterdir()} == {"data", "config.yaml"}


def test_all_mistakes_of_a_cohort_are_told_at_once_and_a_run_makes_no_folder(
    sound: Path, tmp_path: Path, medtrans: Medtrans
) -> None:
    root = shutil.copytree(sound, tmp_path / "data")
    config = config_of(root, tmp_path / "run")
    for spoil in (moved, cut_short, partial(constant, subject="s05")):
        spoil(root, config)
    path = written(config, tmp_path)
    code, _, _ = medtrans("check", path, "--json", str(tmp_path / "check.json"))
    assert code == 3
    told = json.loads((tmp_path / "check.json").read_text())
    assert told["ready"] is False
    assert [case["case"] for case in told["cases"] if case["faults"]] == ["s02", "s03", "s05"]
    assert medtrans("run", path)[0] == 3
    assert not (tmp_path / "run").exists()
