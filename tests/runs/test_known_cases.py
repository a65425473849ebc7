"""A run knows the cases it was trained with: what has become of them since changes no split and no score in silence."""

from __future__ import annotations

import csv
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
    ],
    ids=["moved between splits", "gone", "training target changed", "test source changed"],
)
def test_a_case_that_is_another_one_now_is_refused_by_name(
    verb: str, happened: Callable[[Path], None], named: str, home: Path
) -> None:
    before = (home / "run" / "metrics.csv").read_bytes(), (home / "run" / "cases.csv").read_bytes()
    happened(home)
    with pytest.raises(DataError, match=named):
        again(home, verb)
    assert ((home / "run" / "metrics.csv").read_bytes(), (home / "run" / "cases.csv").read_bytes()) == before


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
