"""Patterns find which files belong together; nothing is dropped in silence and nothing is read."""

from __future__ import annotations

import logging
import unicodedata
from pathlib import Path

import pytest

from medtrans.builtin.datasets.paired_folders import PairedFolders
from medtrans.cohort import gather
from medtrans.errors import ConfigError, DataError
from medtrans.settings import FractionsSplit

T1, T2, MASK = "{subject}/{subject}_T1w.nii.gz", "{subject}/{subject}_T2w.nii.gz", "{subject}/mask.nii.gz"


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


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


def test_modalities_may_lie_in_folders_of_their_own(tmp_path):
    touch(tmp_path, "trainA/1.nii", "trainA/2.nii", "trainB/1.nii", "trainB/2.nii")
    cases = PairedFolders(root=tmp_path, images={"mr": "trainA/{subject}.nii", "ct": "trainB/{subject}.nii"}).cases()
    assert [sorted(case.images) for case in cases] == [["ct", "mr"]] * 2


def test_a_field_that_occurs_twice_reads_the_same_both_times(tmp_path):
    pairs(tmp_path, "a", "b")
    touch(tmp_path, "a/b_T1w.nii.gz", "a/c_T1w.nii.gz")
    cases = PairedFolders(root=tmp_path, images={"t1": T1, "t2": T2}).cases()
    assert [case.images["t1"].name for case in cases] == ["a_T1w.nii.gz", "b_T1w.nii.gz"]


def test_sessions_make_several_cases_of_a_subject_in_the_order_of_the_fields(tmp_path):
    touch(tmp_path, "b/1/t1.nii", "a/2/t1.nii", "a/10/t1.nii")
    cases = PairedFolders(root=tmp_path, images={"t1": "{subject}/{session}/t1.nii"}).cases()
    assert [(case.case, case.subject) for case in cases] == [("a_10", "a"), ("a_2", "a"), ("b_1", "b")]
    named = PairedFolders(
        root=tmp_path, images={"t1": "{subject}/{session}/t1.nii"}, case="ses-{session} of {subject}"
    ).cases()
    assert named[0].case == "ses-10 of a"


def test_a_pattern_without_a_field_serves_all_cases_that_agree(tmp_path, caplog):
    touch(tmp_path, "a/1/t1.nii", "a/2/t1.nii", "b/1/t1.nii", "a/mask.nii", "c/mask.nii")
    images = {"t1": "{subject}/{session}/t1.nii", "mask": "{subject}/mask.nii"}
    cases = PairedFolders(root=tmp_path, images=images).cases()
    assert [case.images.get("mask") for case in cases] == [tmp_path / "a/mask.nii", tmp_path / "a/mask.nii", None]
    assert "1 of 3 cases have no mask: case_0003" in caplog.text
    assert "1 of 5 files found belong to no case" in caplog.text


def test_a_star_stands_for_what_does_not_matter(tmp_path):
    touch(tmp_path, "site-x/a_20190101_T1.nii", "site-y/b_20200202_T1.nii")
    cases = PairedFolders(root=tmp_path, images={"t1": "site-*/{subject}_*_T1.nii"}).cases()
    assert [case.case for case in cases] == ["a", "b"]


def test_an_earlier_field_takes_as_much_as_it_can(tmp_path):
    touch(tmp_path, "patient_01_baseline_T1.nii")
    (case,) = PairedFolders(root=tmp_path, images={"t1": "{subject}_{session}_T1.nii"}).cases()
    assert case.subject == "patient_01"


@pytest.mark.parametrize("name", ["Jörg Å", "日本 1", "a[1]", "x?y", "a+b (2)", "{odd}", "-rf", "a\\b"])
def test_unusual_names_and_signs_simply_work(tmp_path, name):
    root = tmp_path / "Übung (1) [x]"
    pairs(root, name)
    (case,) = PairedFolders(root=root, images={"t1": T1, "t2": T2}).cases()
    assert case.subject == unicodedata.normalize("NFC", name)
    assert all(isinstance(image, Path) and image.is_file() for image in case.images.values())


@pytest.mark.parametrize("sign", ["[1]", "?", "+", "(a)", "."])
def test_signs_in_a_pattern_stand_for_themselves(tmp_path, sign):
    touch(tmp_path, f"run{sign}/a.nii", "run1/b.nii", "runx/c.nii", "runa/d.nii")
    cases = PairedFolders(root=tmp_path, images={"t1": f"run{sign}/{{subject}}.nii"}).cases()
    assert [case.case for case in cases] == ["a"]


def test_a_name_composed_in_two_ways_is_one_name(tmp_path):
    touch(tmp_path, "t1/" + unicodedata.normalize("NFC", "Zoë.nii"), "t2/" + unicodedata.normalize("NFD", "Zoë.nii"))
    (case,) = PairedFolders(root=tmp_path, images={"t1": "t1/{subject}.nii", "t2": "t2/{subject}.nii"}).cases()
    assert set(case.images) == {"t1", "t2"}


def test_neighbouring_wildcards_stay_in_one_folder(tmp_path):
    touch(tmp_path, "ab/t1.nii", "a/b/t1.nii")
    (case,) = PairedFolders(root=tmp_path, images={"t1": "{subject}{session}/t1.nii"}).cases()
    assert case.images["t1"] == tmp_path / "ab/t1.nii"


def test_hidden_files_and_folders_are_passed_over(tmp_path):
    touch(tmp_path, "a.nii", "._a.nii", ".b.nii")
    (tmp_path / "folder.nii").mkdir()
    assert [case.case for case in PairedFolders(root=tmp_path, images={"t1": "{subject}.nii"}).cases()] == ["a"]
    assert [case.case for case in PairedFolders(root=tmp_path, images={"t1": "*{subject}.nii"}).cases()] == ["a"]


def test_a_case_without_an_optional_image_is_kept_and_told_by_number(tmp_path, caplog):
    pairs(tmp_path, "anna", "bert", "carl", "dora", "emil")
    touch(tmp_path, "bert/mask.nii.gz")
    cases = PairedFolders(root=tmp_path, images={"t1": T1, "t2": T2, "mask": MASK}).cases()
    assert len(cases) == 5
    assert "4 of 5 cases have no mask: case_0001, case_0003, case_0004 and 1 more" in caplog.text
    assert "anna" not in caplog.text  # the log may be shared


def test_a_case_that_lacks_what_a_run_needs_is_named_by_the_run(tmp_path, caplog):
    pairs(tmp_path, "a", "b", "c")
    touch(tmp_path, "d/d_T1w.nii.gz", "e/e_T2w.nii.gz")
    dataset = PairedFolders(root=tmp_path, images={"t1": T1, "t2": T2})
    with caplog.at_level(logging.ERROR), pytest.raises(DataError) as caught:
        gather(dataset, FractionsSplit(), source=["t1"], target=["t2"], seed=0)
    assert 'case "d": no t2' in caught.value.faults[0]
    assert 'case "e": no t1' in caught.value.faults[1]


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
    assert "a_1.nii" in fault
    assert "a_2.nii" in fault
    assert "have the same fields" in fault


@pytest.mark.parametrize(
    ("images", "case", "found"),
    [
        ({}, None, "at least one modality"),
        ({"t1": "all.nii"}, None, "expected the field {subject}"),
        ({"t1": "{subjct}.nii"}, None, "expected the field {subject}"),
        ({"t1": "{subject}.nii"}, "{session}", 'expected a name made from {subject}, found "{session}"'),
        ({"t1": "{subject}.nii"}, "always", 'found "always"'),
        ({"t1": "{a b}.nii"}, None, "letters, digits and _, found {a b}"),
        ({"t1": "{}.nii"}, None, "letters, digits and _, found {}"),
        ({"t1": "{subject.nii"}, None, "a brace has no partner"),
        ({"t1": "**/{subject}.nii"}, None, "** is not known"),
        ({"t1": "/data/{subject}.nii"}, None, "below root"),
        ({"t1": "../{subject}.nii"}, None, "below root"),
        ({"t1": ""}, None, "below root"),
        ({"t1": "{subject}/{session}.nii", "t2": "{subject}/{run}.nii"}, None, "a pattern with all the fields"),
    ],
)
def test_wrong_patterns_are_refused_before_anything_is_looked_for(images, case, found):
    with pytest.raises(ConfigError) as caught:
        PairedFolders(root=Path("/nowhere"), images=images, case=case)
    assert found in str(caught.value)
