"""Patterns find which files belong together; nothing is dropped in silence and nothing is read."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from medtrans.builtin.datasets.paired_folders import PairedFolders
from medtrans.errors import ConfigError, DataError
from tests.builtin.trees import touch

T1, T2, MASK = "{subject}/{subject}_T1w.nii.gz", "{subject}/{subject}_T2w.nii.gz", "{subject}/mask.nii.gz"


def pairs(root: Path, *subjects: str) -> None:
    for subject in subjects:
        touch(root, f"{subject}/{subject}_T1w.nii.gz", f"{subject}/{subject}_T2w.nii.gz")


def faults_of(root: Path, images: dict[str, str]) -> tuple[str, ...]:
    with pytest.raises(DataError) as caught:
        PairedFolders(root=root, images=images).cases()
    return caught.value.faults


def test_files_whose_fields_agree_make_a_case(tmp_path, caplog):
    pairs(tmp_path, "b", "a")
    touch(tmp_path, "a/mask.nii.gz", "b/mask.nii.gz", "a/notes.txt", "readme")
    cases = PairedFolders(root=tmp_path, images={"t1": T1, "t2": T2, "mask": MASK}).cases()
    assert [(case.case, case.subject, case.split) for case in cases] == [("a", "a", None), ("b", "b", None)]
    assert cases[0].images == {
        "t1": tmp_path / "a/a_T1w.nii.gz",
        "t2": tmp_path / "a/a_T2w.nii.gz",
        "mask": tmp_path / "a/mask.nii.gz",
    }
    assert caplog.text == ""


NFC, NFD = (unicodedata.normalize(form, "Zoë") for form in ("NFC", "NFD"))
VISITS = {"t1": "{subject}/{session}/t1.nii"}


@pytest.mark.parametrize(
    ("files", "images", "case", "cases"),
    [
        (["A/1.nii", "A/2.nii", "B/1.nii", "B/2.nii"], {"mr": "A/{subject}.nii", "ct": "B/{subject}.nii"}, None,
         {"1": ["A/1.nii", "B/1.nii"], "2": ["A/2.nii", "B/2.nii"]}),
        (["a/a_T1w.nii.gz", "a/b_T1w.nii.gz", "a/c_T1w.nii.gz"], {"t1": T1}, None, {"a": ["a/a_T1w.nii.gz"]}),
        (["b/1/t1.nii", "a/2/t1.nii", "a/10/t1.nii"], VISITS, None,
         {"a_10": ["a/10/t1.nii"], "a_2": ["a/2/t1.nii"], "b_1": ["b/1/t1.nii"]}),
        (["a/2/t1.nii"], VISITS, "ses-{session} of {subject}", {"ses-2 of a": ["a/2/t1.nii"]}),
        (["site-x/a_2019_T1.nii"], {"t1": "site-*/{subject}_*_T1.nii"}, None, {"a": ["site-x/a_2019_T1.nii"]}),
        (["p_01_base_T1.nii"], {"t1": "{subject}_{session}_T1.nii"}, "{subject}", {"p_01": ["p_01_base_T1.nii"]}),
        ([f"x/{NFC}.nii", f"y/{NFD}.nii"], {"t1": "x/{subject}.nii", "t2": "y/{subject}.nii"}, None,
         {NFC: [f"x/{NFC}.nii", f"y/{NFD}.nii"]}),
        (["ab/t1.nii", "a/b/t1.nii"], {"t1": "{subject}{session}/t1.nii"}, "x{subject}", {"xa": ["ab/t1.nii"]}),
        (["a.nii", "._a.nii", ".b.nii", "f.nii/x"], {"t1": "{subject}.nii"}, None, {"a": ["a.nii"]}),
        (["a.nii", "._a.nii", ".b.nii", "f.nii/x"], {"t1": "*{subject}.nii"}, None, {"a": ["a.nii"]}),
        *(([f"run{sign}/a.nii", "run1/b.nii", "runx/c.nii", "runa/d.nii"], {"t1": f"run{sign}/{{subject}}.nii"}, None,
           {"a": [f"run{sign}/a.nii"]}) for sign in ("[1]", "?", "+", "(a)", ".")),
    ],
    ids=["folders", "field twice", "sessions", "named", "star", "greedy", "composed", "one folder", "hidden",
         "hidden behind a star", *(f"run{sign}" for sign in ("[1]", "?", "+", "(a)", "."))],
)  # fmt: skip
def test_what_a_pattern_finds(tmp_path, files, images, case, cases):
    touch(tmp_path, *files)
    found = PairedFolders(root=tmp_path, images=images, case=case).cases()
    assert {one.case: list(one.images.values()) for one in found} == {
        name: [tmp_path / file for file in there] for name, there in cases.items()
    }
    assert [one.case for one in found] == list(cases)


def test_a_pattern_without_a_field_serves_all_cases_that_agree(tmp_path, caplog):
    touch(tmp_path, "a/1/t1.nii", "a/2/t1.nii", "b/1/t1.nii", "a/mask.nii", "c/mask.nii")
    images = {"t1": "{subject}/{session}/t1.nii", "mask": "{subject}/mask.nii"}
    cases = PairedFolders(root=tmp_path, images=images).cases()
    assert [case.images.get("mask") for case in cases] == [tmp_path / "a/mask.nii", tmp_path / "a/mask.nii", None]
    assert "1 of 3 cases have no mask: case_0003" in caplog.text
    assert "1 of 5 files found belong to no case" in caplog.text


@pytest.mark.parametrize("name", ["Jörg Å", "日本 1", "a[1]", "x?y", "a+b (2)", "{odd}", "-rf", "a\\b"])
def test_unusual_names_and_signs_simply_work(tmp_path, name):
    root = tmp_path / "Übung (1) [x]"
    pairs(root, name)
    (case,) = PairedFolders(root=root, images={"t1": T1, "t2": T2}).cases()
    assert case.subject == unicodedata.normalize("NFC", name)
    assert all(isinstance(image, Path) and image.is_file() for image in case.images.values())


def test_a_case_without_an_optional_image_is_kept_and_told_by_number(tmp_path, caplog):
    pairs(tmp_path, "anna", "bert", "carl", "dora", "emil")
    touch(tmp_path, "bert/mask.nii.gz")
    cases = PairedFolders(root=tmp_path, images={"t1": T1, "t2": T2, "mask": MASK}).cases()
    assert len(cases) == 5
    assert "4 of 5 cases have no mask: case_0001, case_0003, case_0004 and 1 more" in caplog.text
    assert "anna" not in caplog.text  # the log may be shared


def test_patterns_that_match_nothing_are_told_together_with_what_is_there(tmp_path):
    touch(tmp_path, "a/a_t1.nii.gz", "a/a_T2w.nii.gz")
    faults = faults_of(tmp_path, {"t1": T1, "t2": T2, "mask": MASK})
    assert len(faults) == 2
    for fault, modality, pattern in zip(faults, ("t1", "mask"), (T1, MASK), strict=True):
        assert fault.startswith(f'images.{modality}: nothing in "{tmp_path}" matches "{pattern}"')
        assert '"a/a_t1.nii.gz"' in fault


def test_two_files_for_one_place_are_not_chosen_from(tmp_path):
    touch(tmp_path, "a_1.nii", "a_2.nii", "b_1.nii")
    (fault,) = faults_of(tmp_path, {"t1": "{subject}_*.nii"})
    assert all(part in fault for part in ("a_1.nii", "a_2.nii", "same fields"))


@pytest.mark.parametrize(
    ("images", "case", "found"),
    [
        ({}, None, "at least one modality"),
        ({"t1": "all.nii"}, None, "expected the field {subject}"),
        ({"t1": "{subject}.nii"}, "{session}", 'expected a name made from {subject}, found "{session}"'),
        ({"t1": "{subject}.nii"}, "always", 'found "always"'),
        ({"t1": "{a b}.nii"}, None, "letters, digits and _, found {a b}"),
        ({"t1": "{subject.nii"}, None, "a brace has no partner"),
        ({"t1": "**/{subject}.nii"}, None, "** is not known"),
        ({"t1": "/data/{subject}.nii"}, None, "below root"),
        ({"t1": "../{subject}.nii"}, None, "below root"),
        ({"t1": "{subject}/{session}.nii", "t2": "{subject}/{run}.nii"}, None, "a pattern with all the fields"),
    ],
)
def test_wrong_patterns_are_refused_before_anything_is_looked_for(images, case, found):
    with pytest.raises(ConfigError) as caught:
        PairedFolders(root=Path("/nowhere"), images=images, case=case)
    assert found in str(caught.value)
