"""BIDS trees: what makes a case, which of several files is meant, and what is reported rather than guessed."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from medtrans.builtin.datasets.bids import BIDS
from medtrans.errors import ConfigError

from .trees import configured, fault_of, names_of, touch


def scans(root: Path, *visits: str, suffixes: tuple[str, ...] = ("T1w", "T2w")) -> None:
    for visit in visits:
        for suffix in suffixes:
            touch(root, f"{visit}/anat/{visit.replace('/', '_')}_{suffix}.nii.gz")
            touch(root, f"{visit}/anat/{visit.replace('/', '_')}_{suffix}.json")


def images_of(root: Path, **options: Any) -> dict[str, dict[str, str]]:
    return {case.case: names_of(case) for case in BIDS(root=root, **options).cases()}


def test_sessions_are_cases_and_share_the_subject(tmp_path):
    scans(tmp_path, "sub-02", "sub-01/ses-post", "sub-01/ses-pre")
    touch(tmp_path, "participants.tsv", "sub-01/ses-pre/func/sub-01_ses-pre_task-rest_bold.nii.gz")
    cases = BIDS(root=tmp_path).cases()
    assert [(case.case, case.subject) for case in cases] == [
        ("sub-01_ses-post", "sub-01"), ("sub-01_ses-pre", "sub-01"), ("sub-02", "sub-02")
    ]  # fmt: skip
    assert cases[2].images == {
        "t1": tmp_path / "sub-02/anat/sub-02_T1w.nii.gz",
        "t2": tmp_path / "sub-02/anat/sub-02_T2w.nii.gz",
    }


def test_the_usual_images_need_no_option(tmp_path):
    scans(tmp_path, "sub-01", suffixes=("T1w", "T2w", "FLAIR", "PDw", "ce-gadolinium_T1w", "T2star"))
    assert images_of(tmp_path)["sub-01"] == {
        "t1": "sub-01_T1w.nii.gz",
        "t2": "sub-01_T2w.nii.gz",
        "flair": "sub-01_FLAIR.nii.gz",
        "pd": "sub-01_PDw.nii.gz",
        "t1ce": "sub-01_ce-gadolinium_T1w.nii.gz",
    }


def test_the_plain_t1_is_never_one_with_contrast_agent_or_a_phase_or_in_another_space(tmp_path):
    others = ("ce-gadolinium_T1w", "part-phase_T1w", "space-MNI_T1w", "desc-preproc_T1w", "mod-T1w_defacemask")
    scans(tmp_path, "sub-01", suffixes=("T2w", *others))
    assert set(images_of(tmp_path)["sub-01"]) == {"t1ce", "t2"}
    assert images_of(tmp_path, images={"t1": "part-phase_T1w"})["sub-01"] == {"t1": "sub-01_part-phase_T1w.nii.gz"}


def test_acquisition_reconstruction_and_run_may_be_there(tmp_path):
    scans(tmp_path, "sub-01", suffixes=("acq-mprage_run-1_T1w", "rec-norm_T2w"))
    assert images_of(tmp_path)["sub-01"] == {
        "t1": "sub-01_acq-mprage_run-1_T1w.nii.gz",
        "t2": "sub-01_rec-norm_T2w.nii.gz",
    }


def test_several_runs_are_all_reported_and_not_chosen_from(tmp_path):
    scans(tmp_path, "sub-01", "sub-02", suffixes=("run-1_T1w", "run-2_T1w"))
    message = fault_of(BIDS(root=tmp_path))
    assert 'sub-01, t1: 2 files fit "T1w": "sub-01_run-1_T1w.nii.gz", "sub-01_run-2_T1w.nii.gz"' in message
    assert "choose with entities: {run: 1}" in message
    assert message.count("\n") == 1


def test_entities_choose_among_repeats_however_numbers_are_padded(tmp_path):
    scans(tmp_path, "sub-01", suffixes=("run-01_T1w", "run-02_T1w", "T2w"))
    scans(tmp_path, "sub-02")
    found = images_of(tmp_path, entities={"run": 2})
    assert found["sub-01"] == {"t1": "sub-01_run-02_T1w.nii.gz", "t2": "sub-01_T2w.nii.gz"}
    assert found["sub-02"] == {"t1": "sub-02_T1w.nii.gz", "t2": "sub-02_T2w.nii.gz"}


def test_a_file_that_states_the_entity_comes_before_one_that_does_not(tmp_path):
    scans(tmp_path, "sub-01", suffixes=("acq-mprage_T1w", "acq-spgr_T1w", "T1w"))
    scans(tmp_path, "sub-02", suffixes=("acq-spgr_T1w",))
    found = images_of(tmp_path, entities={"acq": "MPRAGE"})
    assert found == {"sub-01": {"t1": "sub-01_acq-mprage_T1w.nii.gz"}}


def test_a_selector_chooses_for_one_modality(tmp_path):
    scans(tmp_path, "sub-01", suffixes=("acq-mprage_T1w", "acq-spgr_T1w", "acq-spgr_T2w"))
    images = {"t1": "acq-mprage_T1w", "t2": "T2w"}
    assert images_of(tmp_path, images=images)["sub-01"]["t1"] == "sub-01_acq-mprage_T1w.nii.gz"


def test_one_name_with_two_endings_is_reported(tmp_path):
    touch(tmp_path, "sub-01/anat/sub-01_T1w.nii", "sub-01/anat/sub-01_T1w.nii.gz")
    assert "remove all but one" in fault_of(BIDS(root=tmp_path))


def test_masks_and_labels_come_from_derivatives_and_are_optional(tmp_path, caplog):
    scans(tmp_path, "sub-01/ses-1", "sub-01/ses-2")
    derived = tmp_path / "derivatives/fmriprep/sub-01/ses-1/anat"
    touch(derived, "sub-01_ses-1_desc-brain_mask.nii.gz", "sub-01_ses-1_space-MNI_desc-brain_mask.nii.gz")
    images = {"t1": "T1w", "t2": "T2w", "mask": "derivatives/fmriprep/desc-brain_mask"}
    cases = BIDS(root=tmp_path, images=images, incomplete="leave_out").cases()
    assert [case.images.get("mask") for case in cases] == [derived / "sub-01_ses-1_desc-brain_mask.nii.gz", None]
    assert "1 of 2 cases have no mask" in caplog.text
    assert "sub-01" not in caplog.text


def test_incomplete_sessions_are_listed_or_left_out_with_a_count(tmp_path, caplog):
    scans(tmp_path, "sub-01")
    scans(tmp_path, "sub-02", suffixes=("T1w",))
    images = {"t1": "T1w", "t2": "T2w"}
    assert list(images_of(tmp_path, images=images)) == ["sub-01", "sub-02"]
    caplog.clear()
    assert list(images_of(tmp_path, images=images, incomplete="leave_out")) == ["sub-01"]
    assert [record.message for record in caplog.records] == ["1 of 2 cases have no t2 and are left out"]


def test_no_complete_session_is_an_error(tmp_path):
    scans(tmp_path, "sub-01", suffixes=("T1w",))
    scans(tmp_path, "sub-02", suffixes=("T2w",))
    dataset = BIDS(root=tmp_path, images={"t1": "T1w", "t2": "T2w"}, incomplete="leave_out")
    assert "no session" in fault_of(dataset)


def test_an_image_that_is_nowhere_is_told_with_what_is_there(tmp_path):
    scans(tmp_path, "sub-01")
    message = fault_of(BIDS(root=tmp_path, images={"t1": "T1w", "flair": "FLAIR", "mask": "gone/mask"}))
    assert 'images.flair: nothing in "' in message
    assert 'is "FLAIR"; found "sub-01_T1w.nii.gz", "sub-01_T2w.nii.gz"' in message
    assert "images.mask" in message


def test_a_file_in_another_subjects_folder_is_reported(tmp_path):
    scans(tmp_path, "sub-01", "sub-02")
    touch(tmp_path, "sub-02/anat/sub-01_T1w.nii.gz")
    assert "the name says sub-01" in fault_of(BIDS(root=tmp_path))


def test_hidden_files_are_passed_over_and_a_link_to_nowhere_is_listed(tmp_path):
    scans(tmp_path, "sub-01", suffixes=("T1w",))
    touch(tmp_path, "sub-01/anat/._sub-01_T1w.nii.gz")
    (tmp_path / "sub-01/anat/sub-01_T2w.nii.gz").symlink_to("../../.git/annex/object")
    assert set(images_of(tmp_path)["sub-01"]) == {"t1", "t2"}


def test_a_root_without_subjects_is_told_with_what_is_there(tmp_path):
    touch(tmp_path, "mystudy/sub-01/anat/sub-01_T1w.nii.gz")
    message = fault_of(BIDS(root=tmp_path))
    assert f'nothing in "{tmp_path}" fits; expected "sub-01/anat/sub-01_T1w.nii.gz", found "mystudy"' in message
    assert f'no such folder "{tmp_path / "gone"}"' in fault_of(BIDS(root=tmp_path / "gone"))


def test_wrong_options_are_refused_together():
    with pytest.raises(ConfigError) as caught:
        BIDS(root=Path(), images={"t1": "*_T1w", "mask": "mask.nii.gz"})
    assert len(caught.value.faults) == 2
    with pytest.raises(ConfigError, match="beside mask and labels"):
        BIDS(root=Path(), images={"mask": "mask"})
    with pytest.raises(ConfigError, match="leave_out needs images"):
        BIDS(root=Path(), incomplete="leave_out")


def test_options_come_from_a_config(tmp_path, caplog):
    scans(tmp_path, "sub-01", suffixes=("run-1_T1w", "run-2_T1w"))
    options = {"root": str(tmp_path), "images": {"mr": "T1w"}, "entities": {"run": 1}, "incomplete": "leave_out"}
    with caplog.at_level(logging.WARNING):
        (case,) = configured(BIDS, options).cases()
    assert names_of(case) == {"mr": "sub-01_run-1_T1w.nii.gz"}
    assert caplog.text == ""
