"""A run knows the cases it was trained with: what has become of them since changes no split and no score in silence."""

from __future__ import annotations

import csv
import gzip
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import medtrans
from medtrans import DataError, RunFolder
from medtrans.pipeline import evaluate
from medtrans.volume import Volume, read, write
from tests.helpers.pairs import config_of, contrasts, write_pairs

ROWS = {"s01": "train", "s02": "train", "s03": "train", "s04": "validation", "s05": "test", "s06": "test"}


def write_splits(path: Path, rows: dict[str, str]) -> None:
    path.write_text("subject,split\n" + "".join(f"{name},{split}\n" for name, split in rows.items()))


def noise(path: Path) -> None:
    image = read(path)
    write(Volume(np.random.default_rng(9).integers(0, 900, image.shape).astype(np.int16), image.affine), path)


def blank(path: Path) -> None:
    image = read(path)
    write(Volume(np.full_like(image.data, 7), image.affine), path)


def shift(path: Path) -> None:
    image = read(path)
    affine = image.affine.copy()
    affine[0, 3] += 0.5
    write(Volume(image.data, affine), path)


def repack(path: Path, change: int) -> None:
    """The same file not compressed, which says of itself that it is as old as before; its last voxels changed."""
    before, content = path.stat(), bytearray(gzip.decompress(path.read_bytes()))
    content[-2000] ^= change
    path.write_bytes(gzip.compress(bytes(content), compresslevel=0, mtime=0))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def edit_table(home: Path) -> None:
    table = home / "run" / "cases.csv"
    table.write_text(table.read_text().replace("s01,s01,train", "s01,s01,test"))
    write_splits(home / "split.csv", ROWS | {"s01": "test"})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data, a table of splits and a run of two steps, that each test copies."""
    home = tmp_path_factory.mktemp("known")
    write_pairs(home / "data")
    write_splits(home / "split.csv", ROWS)
    medtrans.run(config(home))
    return home


def config(home: Path, **more: Any) -> dict[str, Any]:
    own = config_of(home / "data", home / "run")
    own["split"] = {"by": "file", "path": str(home / "split.csv")}
    own["train"] = {**own["train"], "steps": 2, "checkpoint_every": 2, "validate_every": 2}
    return own | {"metrics": {"psnr": {}, "mae": {}}} | more


@pytest.fixture
def home(trained: Path, tmp_path: Path) -> Path:
    """The same with a copy of its own of everything, the data at another place."""
    return Path(shutil.copytree(trained, tmp_path / "home"))


def scored(run: Path) -> set[str]:
    with (run / "metrics.csv").open() as file:
        return {row["case"] for row in csv.DictReader(file)}


def again(home: Path, verb: str, *overrides: str) -> RunFolder:
    """Evaluate or resume with the data where they now lie."""
    moved = (f"dataset.options.root={home / 'data'}", f"split.path={home / 'split.csv'}", *overrides)
    if verb == "evaluate":
        return evaluate(home / "run", moved)
    return medtrans.run(home / "run" / "config.yaml", moved, resume=True)


@pytest.mark.parametrize("verb", ["evaluate", "resume"])
@pytest.mark.parametrize(
    ("happened", "named"),
    [
        (lambda home: write_splits(home / "split.csv", ROWS | {"s01": "test"}), "s01"),
        (lambda home: shutil.rmtree(home / "data" / "s05"), "s05"),
        (lambda home: noise(home / "data" / "s02" / "t2.nii.gz"), "s02"),
        (lambda home: noise(home / "data" / "s06" / "t1.nii.gz"), "s06"),
        (lambda home: shift(home / "data" / "s06" / "t2.nii.gz"), "s06"),
        (lambda home: blank(home / "data" / "s03" / "t1.nii.gz"), "s03"),
        (edit_table, "s01"),
    ],
    ids=[
        "moved between splits",
        "gone",
        "training target changed",
        "test source changed",
        "lies elsewhere",
        "emptied",
        "moved in the run's table too",
    ],
)
def test_a_case_that_is_another_one_now_is_refused_by_name(
    verb: str, happened: Callable[[Path], None], named: str, home: Path
) -> None:
    happened(home)
    kept = [home / "run" / name for name in ("metrics.csv", "cases.csv", "config.yaml")]
    before = [file.read_bytes() for file in kept]
    with pytest.raises(DataError, match=named):
        again(home, verb)
    assert [file.read_bytes() for file in kept] == before


def test_a_file_changed_in_place_is_found_though_size_and_time_say_nothing(home: Path) -> None:
    image = home / "data" / "s05" / "t1.nii.gz"
    repack(image, 0)
    again(home, "evaluate")
    before = image.stat()
    repack(image, 64)
    assert (image.stat().st_size, image.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    with pytest.raises(DataError, match="s05"):
        again(home, "evaluate")


def test_a_run_without_its_table_goes_on_with_the_same_cases_or_not_at_all(home: Path) -> None:
    table = home / "run" / "cases.csv"
    before = table.read_bytes()
    table.unlink()
    again(home, "resume")
    assert table.read_bytes() == before
    table.unlink()
    (home / "data" / "s09").mkdir()
    for name, image in contrasts(9).items():
        write(image, home / "data" / "s09" / f"{name}.nii.gz")
    write_splits(home / "split.csv", ROWS | {"s09": "test"})
    with pytest.raises(DataError, match="s09"):
        again(home, "evaluate")


@pytest.mark.parametrize("override", ["split={by: fractions, train: 0.6, validation: 0.2, test: 0.2}", "seed=3"])
def test_another_way_to_split_is_refused_rather_than_passed_over(override: str, home: Path) -> None:
    with pytest.raises(medtrans.ConfigError, match=override.partition("=")[0]):
        again(home, "resume", override)


@pytest.mark.parametrize("verb", ["evaluate", "resume"])
def test_data_that_moved_and_new_cases_change_nothing(verb: str, home: Path) -> None:
    """Also files that were touched, packed anew, or split by a new draw."""
    before = (home / "run" / "cases.csv").read_bytes()
    rows = (home / "run" / "metrics.csv").read_bytes()
    for name, image in contrasts(99).items():
        (home / "data" / "a00").mkdir(exist_ok=True)
        write(image, home / "data" / "a00" / f"{name}.nii.gz")
    (home / "data" / "s01" / "t1.nii.gz").touch()
    whole = home / "data" / "s02" / "t1.nii.gz"
    write(read(whole), whole.with_suffix("").with_suffix(".other.nii"))
    whole.with_suffix("").with_suffix(".other.nii").unlink()
    again(home, verb)
    assert (home / "run" / "cases.csv").read_bytes() == before
    assert (home / "run" / "metrics.csv").read_bytes() == rows


def test_a_random_split_is_not_drawn_again(tmp_path: Path) -> None:
    write_pairs(tmp_path / "data", subjects=6)
    drawn = config(tmp_path, split={"by": "fractions", "train": 0.5, "validation": 0.17, "test": 0.33})
    run = medtrans.run(drawn)
    known = run.cases.read_bytes(), scored(run.path)
    for number in range(20, 26):
        (tmp_path / "data" / f"n{number}").mkdir()
        for name, image in contrasts(number).items():
            write(image, tmp_path / "data" / f"n{number}" / f"{name}.nii.gz")
    evaluate(run.path)
    assert (run.cases.read_bytes(), scored(run.path)) == known
    medtrans.run(drawn, ["train.steps=3"], resume=True)
    assert (run.cases.read_bytes(), scored(run.path)) == known


def test_a_run_is_finished_with_another_metric(home: Path) -> None:
    run = again(home, "resume", "metrics.psnr=null", "train.best=mae", "train.steps=3")
    assert set(run.read_json(run.summary)["metrics"]) == {"mae"}


def test_only_where_data_lie_can_be_set_when_a_run_is_scored_again(home: Path) -> None:
    with pytest.raises(medtrans.ConfigError, match=r"generator\.name"):
        evaluate(home / "run", ["generator.name=unet"])
