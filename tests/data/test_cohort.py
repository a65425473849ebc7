"""Who is in a run: splits by subject, no leaks, and everything that headers can tell before a voxel is read."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from medtrans.config.schema import ColumnSplit, FileSplit, FoldsSplit, FractionsSplit, SplitSettings
from medtrans.data.checks.images import check_headers
from medtrans.data.cohort import Cohort, build_cohort, load_image, load_images, write_cases
from medtrans.errors import DataError
from medtrans.plugins.interfaces import Case, Dataset
from medtrans.volume import Volume, write


@dataclass(frozen=True)
class Constant:
    value: float = 1.0

    def __call__(self) -> Volume:
        return Volume(np.full((4, 4, 4), self.value, np.float32), np.eye(4))


@dataclass(frozen=True)
class Listed(Dataset):
    listed: Sequence[Case]

    def cases(self) -> Sequence[Case]:
        return self.listed


def case(name: str, subject: str | None = None, split: str | None = None, **images: object) -> Case:
    return Case(name, subject or name, {"t1": Constant(), "t2": Constant(), **images}, split)


def gathered(cases: Sequence[Case], split: SplitSettings | None = None, seed: int = 0) -> Cohort:
    return build_cohort(Listed(cases), split or FractionsSplit(), source=["t1"], target=["t2"], seed=seed)


def by_subject(cohort: Cohort) -> dict[str, str]:
    return {member.case.subject: member.split for member in cohort.members}


def faults_of(cases: Sequence[Case], split: SplitSettings | None = None) -> tuple[str, ...]:
    with pytest.raises(DataError) as caught:
        gathered(cases, split)
    return caught.value.faults


TEN = [case(f"s{number}") for number in range(10)]
ALL_TRAIN = FractionsSplit(train=1.0, validation=0.0, test=0.0)


@given(subjects=st.integers(5, 60), train=st.integers(20, 60), validation=st.integers(20, 40))
def test_fractions_are_shares_of_the_subjects(subjects, train, validation):
    shares = {"train": train / 100, "validation": validation / 100, "test": (100 - train - validation) / 100}
    shares = {name: share for name, share in shares.items() if share * subjects >= 1 or share == 0}
    assume(len(shares) == 3)
    cohort = gathered([case(f"s{number}") for number in range(subjects)], FractionsSplit(**shares))
    for name, share in shares.items():
        assert abs(len(cohort.of(name)) - share * subjects) < 1


@given(order=st.permutations(range(10)), seed=st.integers(0, 2**63 - 1))
def test_the_split_depends_on_seed_and_names_not_on_the_order_of_listing(order, seed):
    assert by_subject(gathered([TEN[place] for place in order], seed=seed)) == by_subject(gathered(TEN, seed=seed))
    assert any(by_subject(gathered(TEN, seed=other)) != by_subject(gathered(TEN, seed=seed)) for other in range(9))


def test_all_visits_of_a_subject_are_in_one_split_however_the_name_is_written():
    spellings = ["Zoë", unicodedata.normalize("NFD", "Zoë"), "ZOË", "  zoë "]
    visits = [case(f"v{number}", subject) for number, subject in enumerate(spellings)]
    for seed in range(20):
        cohort = gathered([*TEN, *visits], seed=seed)
        assert len({member.split for member in cohort.members[10:]}) == 1


def test_folds_test_every_subject_once_and_validate_on_the_next_fold():
    cohorts = [gathered(TEN, FoldsSplit(by="folds", folds=5, fold=fold)) for fold in range(5)]
    tested = [{member.case.case for member in cohort.of("test")} for cohort in cohorts]
    validated = [{member.case.case for member in cohort.of("validation")} for cohort in cohorts]
    assert sorted(name for names in tested for name in names) == sorted(one.case for one in TEN)
    assert validated == tested[1:] + tested[:1]
    assert [len(cohort.of("train")) for cohort in cohorts] == [6] * 5


COLUMN = ColumnSplit(by="column")


def test_a_column_prescribes_a_known_split_for_every_case_and_one_for_each_subject():
    good = [case("b", split="validation"), case("e", split="train"), case("f", split="test")]
    assert by_subject(gathered(good, COLUMN)) == {"b": "validation", "e": "train", "f": "test"}
    bad = [case("a1", "A", "train"), case("a2", "a ", "test"), case("c"), case("d", split="dev")]
    faults = faults_of([*good, *bad], COLUMN)
    for named in (('"a "', '"a1"', '"a2"'), ('"c"', "none"), ('"d"', '"dev"')):
        assert any(all(one in fault for one in named) for fault in faults)


SPLITS = ("train", "validation", "test")
CSV = "subject,split\ns0,train\ns1,validation\ns2,test\n"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("plain.csv", CSV),
        ("windows.csv", "\ufeff" + CSV.replace("\n", "\r\n")),
        ("more columns.csv", "number,subject,split\n1,s0,train\n2, S1 ,validation\n3,s2,test\n3,s2,test\n"),
        ("rows.json", json.dumps([{"subject": f"s{n}", "split": split} for n, split in enumerate(SPLITS)])),
    ],
)
def test_a_file_prescribes_the_split(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8", newline="")
    cohort = gathered(TEN[:3], FileSplit(by="file", path=str(path)))
    assert by_subject(cohort) == {"s0": "train", "s1": "validation", "s2": "test"}


def test_a_split_file_names_a_subject_once_and_all_of_them(tmp_path, caplog):
    path = tmp_path / "split.csv"
    split = FileSplit(by="file", path=str(path))
    path.write_text(CSV + "s0,test\n")
    assert all(found in faults_of(TEN[:3], split)[0] for found in ('"s0"', "row 2", "row 5"))
    path.write_text(CSV)
    assert '"s3"' in faults_of(TEN[:4], split)[0]
    path.write_text(CSV + "stranger,test\n")
    gathered(TEN[:3], split)
    assert "1 subjects" in caplog.text
    assert "stranger" not in caplog.text  # the log may be shared


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("a.csv", "subject;split\ns0;train\n", '"subject;split"'),
        ("a.csv", "subject,split\ns0\n", "row 2"),
        ("a.csv", "", "none"),
        ("a.json", "[", "cannot be read"),
        ("a.json", '{"s0": "train"}', "dict"),
        ("a.csv", None, "cannot be read"),
    ],
)
def test_a_wrong_split_file_is_named(tmp_path, name, text, found):
    if text is not None:
        (tmp_path / name).write_text(text)
    (fault,) = faults_of(TEN, FileSplit(by="file", path=str(tmp_path / name)))
    assert str(tmp_path / name) in fault
    assert found in fault


def test_a_split_without_a_subject_is_refused_wherever_it_comes_from(tmp_path):
    (tmp_path / "a.csv").write_text("subject,split\ns0,train\ns1,train\ns2,test\n")
    cases = [case("s0", split="train"), case("s1", split="train"), case("s2", split="test")]
    for cases_, split, found in (
        (cases, COLUMN, '"validation"'),
        (cases, FileSplit(by="file", path=str(tmp_path / "a.csv")), '"validation"'),
        (TEN, FractionsSplit(train=0.78, validation=0.02, test=0.2), "try 0.1"),  # a fraction that works
        (TEN[:2], None, "at least 3 subjects"),
        (TEN[:3], FoldsSplit(by="folds", folds=5, fold=4), "at least 5 subjects"),
        ([], None, "no case"),
    ):
        assert found in faults_of(cases_, split)[0]


def test_everything_that_is_wrong_is_told_at_once(tmp_path):
    gone = tmp_path / "gone.nii.gz"
    cases = [
        *TEN,
        case("S1 ", "another"),
        Case("no target", "x", {"t1": Constant(), "ct": Constant()}),
        case("no file", t2=gone),
        case("no mask file", mask=gone),
        case("folder", t1=tmp_path),
        case("nobody", " "),
    ]
    faults = faults_of(cases, FractionsSplit(train=0.99, validation=0.005, test=0.005))
    named = ('"S1 "', '"no target": no t2', '"no file", t2', '"no mask file", mask', '"folder", t1', '"nobody"',
             '"validation"')  # fmt: skip
    assert all(any(name in fault for fault in faults) for name in named)
    assert sum(str(gone) in fault for fault in faults) == 2
    many = faults_of([case(f"s{number}", t1=gone) for number in range(50)])
    assert (len(many), many[-1]) == (21, "... and 30 more of this kind")
    gathered([*TEN, case("more", flair=gone)])  # nobody asks for it


def test_one_file_in_two_splits_is_refused(tmp_path):
    scan, link, hard, folder = (tmp_path / name for name in ("scan.nii.gz", "link.nii.gz", "hard.nii.gz", "folder"))
    scan.touch()
    link.symlink_to(scan)
    os.link(scan, hard)
    folder.symlink_to(tmp_path, target_is_directory=True)
    for other in (scan, link, hard, folder / "scan.nii.gz"):
        cases = [case("a", split="train", t1=scan), case("b", split="validation"), case("c", split="test", t1=other)]
        (fault,) = faults_of(cases, COLUMN)
        assert all(found in fault for found in ('"a" in train', '"c" in test', "one file"))
    # Inside a split, or as a mask, it is no leak.
    train = [case(name, split="train", t1=scan, mask=scan) for name in "ab"]
    cases = [*train, case("c", split="validation", mask=scan), case("d", split="test")]
    assert len(gathered(cases, COLUMN).members) == 4


def test_an_image_comes_from_its_file_or_its_function(tmp_path):
    write(Volume(np.full((4, 5, 6), 7, np.float32), np.eye(4)), tmp_path / "a.nii.gz")
    images = load_images(case("a", t1=tmp_path / "a.nii.gz", t2=Constant(3)), ["t1", "t2"])
    assert [(one.shape, one.data.max()) for one in images.values()] == [((4, 5, 6), 7), ((4, 4, 4), 3)]


def failing() -> Volume:
    raise FileNotFoundError("gone")


@pytest.mark.parametrize(
    ("image", "found"),
    [(Path("/nowhere/x.nii.gz"), "x.nii.gz"), (failing, "gone"), (lambda: 3, "gave int")],
)
def test_an_image_that_cannot_be_had_names_case_and_modality(image, found):
    with pytest.raises(DataError) as caught:
        load_image(case("sub-07", t1=image), "t1")
    assert str(caught.value).startswith('case "sub-07", t1: ')
    assert found in str(caught.value)


# ---- before the first voxel


def image(path: Path, shape=(8, 9, 10), spacing=1.0, origin=(0.0, 0.0, 0.0), flip=False) -> Path:
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = origin
    if flip:  # the same places, stored from right to left
        affine[0, 3] += spacing * (shape[0] - 1)
        affine[0, 0] = -spacing
    write(Volume(np.ones(shape, np.float32), affine), path)
    return path


def warnings_of(tmp_path: Path, **images: dict[str, object]) -> list[str]:
    """Of one case whose t1 has the usual place, and the others that are given."""
    made = {name: image(tmp_path / f"{name}.nii.gz", **place) for name, place in {"t1": {}, **images}.items()}
    return check_headers(gathered([case("sub-07", **made)], ALL_TRAIN), ["t1"], ["t2"])


@pytest.mark.parametrize(
    "t2", [{"flip": True}, {"origin": (0.05, 0, 0)}], ids=["stored otherwise", "a twentieth of a voxel"]
)
def test_pairs_in_one_place_pass_in_silence(tmp_path, t2):
    assert warnings_of(tmp_path, t2=t2, mask={}) == []
    assert check_headers(gathered(TEN), ["t1"], ["t2"]) == []  # what functions make is trusted


@pytest.mark.parametrize(
    "images",
    [
        {"t2": {"origin": (0.3, 0, 0)}},  # more than a tenth of a voxel
        {"t2": {"shape": (16, 18, 20), "spacing": 0.5, "origin": (-0.25, -0.25, -0.25)}},  # another resolution
        {"t2": {"shape": (20, 20, 90), "origin": (-6, -6, -40)}},  # a larger field of view
        {"t2": {}, "mask": {"shape": (2, 2, 2), "origin": (4, 4, 4)}},
    ],
)
def test_another_grid_in_one_world_is_legal_and_told_without_names(tmp_path, images):
    (warning,) = warnings_of(tmp_path, **images)
    assert "case_0001" in warning
    assert "sub-07" not in warning  # warnings may be shared


def test_every_pair_that_is_apart_and_every_bad_header_is_told_at_once(tmp_path):
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(b"no image")
    good = image(tmp_path / "good.nii.gz")
    cases = [
        case("elsewhere", t1=good, t2=image(tmp_path / "a.nii.gz", origin=(500, 0, 0))),
        case("mostly elsewhere", t1=good, t2=image(tmp_path / "b.nii.gz", origin=(5, 0, 0))),
        case("broken", t1=broken, t2=shutil.copy(broken, tmp_path / "too.nii.gz")),
        case(
            "mask elsewhere",
            t1=good,
            t2=image(tmp_path / "d.nii.gz"),
            mask=image(tmp_path / "c.nii.gz", origin=(0, 0, 99)),
        ),
    ]
    with pytest.raises(DataError) as caught:
        check_headers(gathered(cases, ALL_TRAIN), ["t1"], ["t2"])
    named = ('"elsewhere": .*500.0 mm apart', '"mostly elsewhere"', '"broken", t1', '"broken", t2', '"mask elsewhere"')
    for wanted, fault in zip(named, caught.value.faults, strict=True):
        assert re.search(wanted, fault)


# ---- the key


def test_the_key_from_numbers_to_names_is_its_owners_alone_and_splits_another_run(tmp_path):
    cohort = gathered([*TEN, case("Ünïcode, with a comma", "s3")])
    assert [(member.number, member.case) for member in cohort.members[:10]] == list(enumerate(TEN, 1))
    path = tmp_path / "cases.csv"
    umask = os.umask(0)
    try:
        write_cases(path, cohort)
        assert os.umask(0) == 0  # left as it was
    finally:
        os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o600
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    assert list(rows[0]) == ["number", "case", "subject", "split"]
    assert rows[10]["case"] == "Ünïcode, with a comma"
    again = gathered([member.case for member in cohort.members], FileSplit(by="file", path=str(path)))
    assert by_subject(again) == by_subject(cohort)
