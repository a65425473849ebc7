"""The data that a new user most often gets wrong: what each is told, with which exit code, before anything is written.

Every message says what is wrong, where (file and field), what was found, what was expected, and what to do.
"""

from __future__ import annotations

import csv
import gzip
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from medtrans.volume import Volume, read, write

from .conftest import Medtrans
from .nifti_corpus import nifti
from .pairs import config_of, write_pairs

Spoil = Callable[[Path, dict[str, Any]], None]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("sound"))


def table(change: Callable[[list[dict[str, str]]], None]) -> Spoil:
    """A manifest in place of the folders, changed."""

    def spoil(root: Path, config: dict[str, Any]) -> None:
        splits = ("train", "train", "train", "train", "validation", "test")
        rows = [
            {"subject": f"s{n:02d}", "split": split, "t1": f"s{n:02d}/t1.nii.gz", "target": f"s{n:02d}/t2.nii.gz"}
            for n, split in enumerate(splits, 1)
        ]
        change(rows)
        with (root / "cases.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
        config["dataset"] = {
            "name": "table",
            "options": {"path": str(root / "cases.csv"), "columns": {"t2": "target"}},
        }
        config["split"] = {"by": "column"}

    return spoil


def rename_target(rows: list[dict[str, str]]) -> None:
    rows[:] = [{"tgt" if key == "target" else key: value for key, value in row.items()} for row in rows]


def lose_a_file(rows: list[dict[str, str]]) -> None:
    rows[2]["t1"] = "imgs/0012_T1.nii.gz"


def subject_in_two_splits(rows: list[dict[str, str]]) -> None:
    rows[5]["subject"] = "S01"
    for number, row in enumerate(rows):
        row["case"] = f"c{number}"


def small_fraction(root: Path, config: dict[str, Any]) -> None:
    config["split"] = {"by": "fractions", "train": 0.9, "validation": 0.02, "test": 0.08}


def same_scan_twice(root: Path, config: dict[str, Any]) -> None:
    table(lambda rows: None)(root, config)
    shutil.copy(root / "s01" / "t1.nii.gz", root / "s06" / "t1.nii.gz")


def target_elsewhere(root: Path, config: dict[str, Any]) -> None:
    path = root / "s03" / "t2.nii.gz"
    image = read(path)
    affine = image.affine.copy()
    affine[:3, 3] += (50, 0, 0)
    write(Volume(image.data, affine), path)


def in_place_of_t1(content: bytes) -> Spoil:
    def spoil(root: Path, config: dict[str, Any]) -> None:
        (root / "s02" / "t1.nii.gz").write_bytes(gzip.compress(content))

    return spoil


def voxels(shape: tuple[int, ...] = (20, 20, 20)) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 900, shape).astype(np.int16)


def cut_short(root: Path, config: dict[str, Any]) -> None:
    path = root / "s02" / "t1.nii.gz"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def not_numbers(root: Path, config: dict[str, Any]) -> None:
    data = voxels().astype(np.float32)
    data[:3, 0, 0] = np.nan
    (root / "s02" / "t1.nii.gz").write_bytes(gzip.compress(nifti(data)))


def large_patch(root: Path, config: dict[str, Any]) -> None:
    config["patch"] = {"size": [32, 32, 16]}
    config["preprocess"]["crop"] = "none"


def odd_patch(root: Path, config: dict[str, Any]) -> None:
    config["patch"] = {"size": [18, 16, 16]}


def constant(root: Path, config: dict[str, Any]) -> None:
    path = root / "s02" / "t1.nii.gz"
    image = read(path)
    write(Volume(np.zeros(image.shape, np.uint8), image.affine), path)


def picture_for_ct(root: Path, config: dict[str, Any]) -> None:
    for path in root.rglob("t2.nii.gz"):
        image = read(path)
        write(Volume((image.data % 256).astype(np.uint8), image.affine), path)
    images = config["dataset"]["options"]["images"]
    images["ct"] = images.pop("t2")
    config["target"] = ["ct"]
    config["preprocess"]["intensity"] = {"t1": {"name": "percentile"}, "ct": {"name": "window"}}


QUATERN = {"qform_code": 1, "quatern": (0, 0, 1), "qoffset": (90.0, 12.0, 3.0)}


@dataclass(frozen=True)
class Wrong:
    """One mistake: what makes it, the exit code, and what must be told."""

    spoil: Spoil
    code: int
    told: tuple[str, ...]


WRONG: Mapping[str, Wrong] = {
    "a column of the manifest is missing": Wrong(
        table(rename_target), 3,
        ("cases.csv", 'column "target" is missing', "Found: subject, split, t1, tgt", 'Rename "tgt"', "{t2: tgt}"),
    ),
    "an image is missing": Wrong(
        table(lose_a_file), 3, ("cases.csv, row 4", "t1", 'no such file "imgs/0012_T1.nii.gz"', "relative to")
    ),
    "a split is empty": Wrong(small_fraction, 3, ('split "validation" has 0 of 6 subjects', "0.02", "try 0.167")),
    "a patient is in two splits": Wrong(
        table(subject_in_two_splits), 3,
        ('subject "S01" is in train', 'case "c5"', "scores would be too good", "Move one"),
    ),
    "one scan has two names": Wrong(
        same_scan_twice, 3, ('case "s01" in train', 'case "s06" in test', "identical t1 voxels", "Remove one")
    ),
    "a pair lies apart": Wrong(
        target_elsewhere, 3, ('case "s03"', "20×20×20 at 3×3×3 mm", "up to 50.0 mm apart", "register them first")
    ),
    "sform and qform disagree": Wrong(
        in_place_of_t1(nifti(voxels(), **QUATERN)), 3,
        ("s02/t1.nii.gz", "qform", "sform", "reading.trust", "viewer"),
    ),
    "no orientation": Wrong(
        in_place_of_t1(nifti(voxels(), sform_code=0)), 3,
        ("s02/t1.nii.gz", "sform_code", "qform_code", "0", "accept_unknown_space"),
    ),
    "a file is cut short": Wrong(cut_short, 3, ("s02/t1.nii.gz", "incomplete", "Copy it again")),
    "voxels are no numbers": Wrong(
        not_numbers, 3, ("s02/t1.nii.gz", "3 of 8,000 voxels are NaN", "fill_not_finite")
    ),
    "a series of volumes": Wrong(
        in_place_of_t1(nifti(voxels((20, 20, 20, 3)))), 3, ("s02/t1.nii.gz", "dim", "3 volumes", "Extract one")
    ),
    "a single slice": Wrong(
        in_place_of_t1(nifti(voxels((20, 20, 1)))), 3, ("s02/t1.nii.gz", "dim", "20 × 20 × 1", "3-D", "Exclude it")
    ),
    "a patch larger than a volume": Wrong(
        large_patch, 0, ("patch.size 32×32×16 does not fit", "20×20×20", "Largest that fits all: 20×20×16", "Set it")
    ),
    "a patch that does not divide": Wrong(
        odd_patch, 0, ("patch.size 18×16×16", "mdaunet needs multiples of 4×4×4", "Nearest: 16×16×16 or 20×16×16")
    ),
    "a constant image": Wrong(
        constant, 3, ('case "s02"', "t1", "every voxel is 0", "nothing to normalise", "exclude the case")
    ),
    "grey values for CT": Wrong(
        picture_for_ct, 3,
        ('case "s01"', "ct", "whole numbers from", "HU are expected (-1024 to 3000)", "exported as a picture"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
def test_a_mistake_is_told_within_ten_seconds_and_nothing_is_written(
    wrong: Wrong, sound: Path, tmp_path: Path, medtrans: Medtrans
) -> None:
    root = shutil.copytree(sound, tmp_path / "data")
    config = config_of(root, tmp_path / "run")
    wrong.spoil(root, config)
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    before = {entry.name for entry in tmp_path.iterdir()}
    begin = time.process_time()
    code, out, err = medtrans("check", str(path))
    assert time.process_time() - begin < 10
    assert code == wrong.code
    assert [part for part in wrong.told if part not in out + err] == []
    assert "Traceback" not in out + err
    assert {entry.name for entry in tmp_path.iterdir()} == before


def test_all_mistakes_of_a_cohort_are_told_at_once(sound: Path, tmp_path: Path, medtrans: Medtrans) -> None:
    root = shutil.copytree(sound, tmp_path / "data")
    config = config_of(root, tmp_path / "run")
    for spoil in (target_elsewhere, cut_short):
        spoil(root, config)
    image = read(root / "s05" / "t1.nii.gz")
    write(Volume(np.zeros(image.shape, np.uint8), image.affine), root / "s05" / "t1.nii.gz")
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    code, out, _ = medtrans("check", str(path), "--json", str(tmp_path / "check.json"))
    assert code == 3
    refused = [line for line in out.splitlines() if "refused:" in line]
    assert [line.split()[1] for line in refused] == ["s02", "s03", "s05"]
    assert "3 of 6 cases: case_0002, case_0003, case_0005" in out.splitlines()[-1]
    told = yaml.safe_load((tmp_path / "check.json").read_text())
    assert told["refused"] == ["case_0002", "case_0003", "case_0005"]
    assert told["ready"] is False
    assert {case["case"]: bool(case["faults"]) for case in told["cases"]} == {
        f"s{n:02d}": n in (2, 3, 5) for n in range(1, 7)
    }


def test_a_run_refuses_what_a_header_shows_before_it_makes_its_folder(
    sound: Path, tmp_path: Path, medtrans: Medtrans
) -> None:
    root = shutil.copytree(sound, tmp_path / "data")
    config = config_of(root, tmp_path / "run")
    in_place_of_t1(nifti(voxels(), sform_code=0))(root, config)
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    code, _, err = medtrans("run", str(path))
    assert code == 3
    assert "accept_unknown_space" in err
    assert not (tmp_path / "run").exists()
