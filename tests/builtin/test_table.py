"""A manifest as spreadsheets and scripts write it; whatever is wrong in it is told by row, all at once."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from medtrans.builtin.datasets.table import Table
from medtrans.config.schema import ColumnSplit
from medtrans.data.cohort import build_cohort
from medtrans.errors import DataError
from medtrans.plugins.interfaces import Case
from tests.builtin.trees import fault_of, names_of, touch


def written(folder: Path, text: str | bytes, name: str = "train.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def listed(folder: Path, text: str | bytes, **options: Any) -> list[Case]:
    return list(Table(path=written(folder, text), **options).cases())


def refused(folder: Path, text: str | bytes, **options: Any) -> str:
    return fault_of(Table(path=written(folder, text), **options))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    touch(tmp_path, "imgs/a_t1.nii.gz", "imgs/a_t2.nii.gz", "imgs/b_t1.nii.gz", "imgs/b_t2.nii.gz")
    return tmp_path


ROWS = "subject,t1,t2\na,imgs/a_t1.nii.gz,imgs/a_t2.nii.gz\nb,imgs/b_t1.nii.gz,imgs/b_t2.nii.gz\n"


def test_a_row_makes_a_case_in_the_order_of_the_file(folder):
    cases = listed(folder, ROWS)
    assert [(case.case, case.subject, case.split) for case in cases] == [("a", "a", None), ("b", "b", None)]
    assert cases[1].images == {"t1": folder / "imgs/b_t1.nii.gz", "t2": folder / "imgs/b_t2.nii.gz"}


@pytest.mark.parametrize("on_disk", ["NFC", "NFD"])
@pytest.mark.parametrize("in_file", ["NFC", "NFD"])
def test_spaces_and_umlauts_in_paths_simply_work(tmp_path, on_disk, in_file):
    touch(tmp_path, unicodedata.normalize(on_disk, "Jörg Müller/T1 (neu), alt.nii.gz"))
    text = unicodedata.normalize(in_file, 'subject,t1\nJörg,"Jörg Müller/T1 (neu), alt.nii.gz"\n')
    (case,) = listed(tmp_path, text)
    assert case.images["t1"].is_file()


def test_backslashes_serve_as_slashes_where_no_file_is_called_so(folder):
    (case,) = listed(folder, "subject,t1\na,imgs\\a_t1.nii.gz\n")
    assert case.images["t1"] == folder / "imgs/a_t1.nii.gz"
    touch(folder, "imgs\\a_t1.nii.gz")
    (case,) = listed(folder, "subject,t1\na,imgs\\a_t1.nii.gz\n")
    assert case.images["t1"] == folder / "imgs\\a_t1.nii.gz"


def test_relative_paths_start_from_the_files_folder_or_root_and_absolute_ones_stay(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    path = written(elsewhere, f"subject,t1,t2\na,imgs/a_t1.nii.gz,{folder / 'imgs/a_t2.nii.gz'}\n")
    (case,) = Table(path=path, root=folder).cases()
    assert case.images == {"t1": folder / "imgs/a_t1.nii.gz", "t2": folder / "imgs/a_t2.nii.gz"}
    assert "imgs/a_t1.nii.gz" in fault_of(Table(path=path))
    assert f'root: no such folder "{folder / "gone"}"' in fault_of(Table(path=path, root=folder / "gone"))


def test_case_and_split_are_optional_columns(folder):
    text = (
        "subject,case,split,t1\na,a_1,train,imgs/a_t1.nii.gz\na,a_2,train,imgs/a_t2.nii.gz\nb,b_1,test,imgs/b_t1.nii.gz"
    )
    cases = listed(folder, text)
    assert [(case.case, case.subject, case.split) for case in cases] == [
        ("a_1", "a", "train"), ("a_2", "a", "train"), ("b_1", "b", "test")
    ]  # fmt: skip


def test_a_split_column_splits_a_cohort_and_a_subject_in_two_is_refused(folder):
    text = "subject,case,split,t1\na,1,train,imgs/a_t1.nii.gz\na,2,test,imgs/a_t2.nii.gz\n"
    with pytest.raises(DataError, match=r'subject "a" is in train .* and test'):
        build_cohort(Table(path=written(folder, text)), ColumnSplit(by="column"), source=["t1"], target=["t1"], seed=0)


def test_columns_may_have_other_names_in_the_file(folder):
    text = "Patient;T1 path;fold;Note\na;imgs/a_t1.nii.gz;test;nice\n"
    (case,) = listed(folder, text, columns={"subject": "Patient", "t1": "T1 path", "split": "fold"})
    assert (case.subject, case.split, names_of(case)) == ("a", "test", {"t1": "a_t1.nii.gz"})


def test_columns_without_images_are_passed_over_unless_named(folder):
    text = "subject,age,t1,flair\na,42,imgs/a_t1.nii.gz,\n"
    assert [set(case.images) for case in listed(folder, text)] == [{"t1"}]
    assert [set(case.images) for case in listed(folder, text, modalities=("t1", "flair"))] == [{"t1"}]
    assert 'age: no such file "42"' in refused(folder, text, modalities=("age",))
    assert "no column holds image files" in refused(folder, "subject,age\na,42\n")


def test_many_missing_files_are_counted_rather_than_spelt_out(tmp_path):
    message = refused(tmp_path, "subject,t1\n" + "".join(f"s{number},{number}.nii.gz\n" for number in range(50)))
    assert message.count("no such file") == 20
    assert "and 30 more" in message
    assert "50 of 50 files are missing" in message
    assert "gone.csv" in fault_of(Table(path=tmp_path / "gone.csv"))


@pytest.mark.parametrize("wrap", [lambda records: records, lambda records: {"files": records}])
def test_json_records_are_rows(folder, wrap):
    records = [
        {"subject": 7, "mr": "imgs/a_t1.nii.gz", "ct": "imgs/a_t2.nii.gz", "tags": ["x"], "mask": None},
        {"subject": "b", "case": "b1", "mr": "imgs/b_t1.nii.gz", "ct": "imgs/b_t2.nii.gz", "mask": "imgs/b_t2.nii.gz"},
    ]
    path = written(folder, json.dumps(wrap(records)), "train.json")
    cases = Table(path=path).cases()
    assert [(case.case, case.subject, set(case.images)) for case in cases] == [
        ("7", "7", {"mr", "ct"}),
        ("b1", "b", {"mr", "ct", "mask"}),
    ]


SPREADSHEETS = {
    "crlf": ROWS.replace("\n", "\r\n"), "bom": b"\xef\xbb\xbf" + ROWS.encode(), "utf-16": ROWS.encode("utf-16"),
    "semicolons": ROWS.replace(",", ";"), "tabs": ROWS.replace(",", "\t"), "sep": "sep=;\n" + ROWS.replace(",", ";"),
    "empty columns": ROWS.replace("\n", ",,\n"), "spaces": ROWS.replace(",", " , "), "end": ROWS.rstrip("\n"),
    "blank rows": "\n" + ROWS.replace("\n", "\n\n"), "quotes": ROWS.replace("a,imgs", '"a",imgs'),
}  # fmt: skip


@pytest.mark.parametrize("text", SPREADSHEETS.values(), ids=SPREADSHEETS)
def test_what_spreadsheets_write_simply_works(folder, text):
    assert listed(folder, text) == listed(folder, ROWS)


A1, A2, B1 = "imgs/a_t1.nii.gz", "imgs/a_t2.nii.gz", "imgs/b_t1.nii.gz"
NAMED = {"columns": {"subject": "subject_id"}, "modalities": ("source", "target")}


@pytest.mark.parametrize(
    ("text", "options", "parts"),
    [
        ("", {}, ["is empty"]),
        ("subject,t1\n", {}, ["expected a row for each case"]),
        ("subject,t1,t1\na,x,y\n", {}, ['has "t1" more than once']),
        ("subject,,t1\na,b,x.nii\n", {}, ["column 2 of the heading has no name"]),
        ("subject,t1\na,one,two.nii\n", {}, ["row 2: found 3 cells, expected 2"]),
        ("subject,t1,t2\na,one.nii\n", {}, ["row 2: found 2 cells, expected 3"]),
        ("subject,t1\nJörg,x.nii\n".encode("cp1252"), {}, ["line 2 is not in UTF-8"]),
        # Columns, with those found and the nearest.
        (f"subject_id,source,tgt\na,{A1},{A2}\n", NAMED,
         ['column "target" is missing. Found: subject_id, source, tgt. Rename "tgt"', "columns: {target: tgt}"]),
        (f"subject_id,src\na,{A1}\n", {"modalities": ("src", "target")},
         ["columns: {subject: subject_id}", 'column "target" is missing']),
        (f"subject,source\na,{A1}\n", {"columns": {"t1": "sources"}}, ["{t1: source}"]),
        ("a,b\n1,2\n", {}, ["Add it, or set"]),
        # Rows, counted as a spreadsheet does, all at once.
        (f"subject,t1\n\na,{A1}\n\nb,gone.nii\n", {}, ["row 5 (case b), t1: no such file \"gone.nii\""]),
        ("sep=,\nsubject,t1\na,gone.nii\n", {}, ["row 3 (case a)", "1 of 1 files are missing"]),
        (f"subject,split,t1\n,train,{A1}\nb,val,{B1}\nc,test,gone.nii\n", {},
         ["row 2: subject is empty", 'row 3: split: expected train, validation or test, found "val"; did you mean',
          "row 4 (case c)"]),
        (f"subject,t1\na,{A1}\nb,{B1}\na,{A1}\n", {}, ['row 2 and row 4 are both case "a"', "agree in every cell"]),
        (f"subject,t1\na,{A1}\nA,{A2}\n", {}, ['in a column "case"']),
        (f"subject,case,t1\na,x,{A1}\nb, X,{B1}\n", {}, ["give each row a case of its own"]),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_csv_file_is_told(folder, text, options, parts):
    message = refused(folder, text, **options)
    assert [part for part in parts if part not in message] == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("[", "line 1: is no JSON"),
        ("{}", "found an object"),
        ("[]", "found an empty list"),
        ("[1]", "expected a list of objects"),
        ('[{"subject": "a", "mr": "gone.nii"}]', 'record 1 (case a), mr: no such file "gone.nii"'),
        ('{"files": [{"mr": "gone.nii", "ct": "gone.nii"}]}', 'column "subject" is missing. Found: mr, ct'),
    ],
)
def test_what_is_wrong_with_a_json_file_is_told(tmp_path, text, found):
    assert found in fault_of(Table(path=written(tmp_path, text, "train.json")))
