"""BIDS trees: what makes a case, which of several files is meant, and what is reported rather than guessed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from medtrans.builtin.datasets.bids import BIDS
from medtrans.errors import ConfigError
from tests.builtin.trees import fault_of, names_of, touch


def scans(root: Path, *visits: str, suffixes: tuple[str, ...] = ("T1w", "T2w")) -> None:
    for visit in visits:
        for suffix in suffixes:
            touch(root, f"{visit}/anat/{visit.replace('/', '_')}_{suffix}.nii.gz")
            touch(root, f"{visit}/anat/{visit.replace('/', '_')}_{suffix}.json")


def images_of(root: Path, **options: Any) -> dict[str, dict[str, str]]:
    """By case and modality what the file's name says behind the case's."""
    return {
        case.case: {
            modality: name.removeprefix(f"{case.case}_").removesuffix(".nii.gz")
            for modality, name in names_of(case).items()
        }
        for case in BIDS(root=root, **options).cases()
    }


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


USUAL = {"t1": "T1w", "t2": "T2w", "flair": "FLAIR", "pd": "PDw", "t1ce": "ce-gadolinium_T1w"}
OTHERS = ("ce-gadolinium_T1w", "part-phase_T1w", "space-MNI_T1w", "desc-preproc_T1w", "mod-T1w_defacemask")


@pytest.mark.parametrize(
    ("there", "options", "taken"),
    [
        ((*USUAL.values(), "T2star"), {}, USUAL),
        (("T2w", *OTHERS), {}, {"t1ce": "ce-gadolinium_T1w", "t2": "T2w"}),  # the plain T1 is none of these
        (OTHERS, {"images": {"t1": "part-phase_T1w"}}, {"t1": "part-phase_T1w"}),
        (("acq-mprage_run-1_T1w", "rec-norm_T2w"), {}, {"t1": "acq-mprage_run-1_T1w", "t2": "rec-norm_T2w"}),
        (("run-01_T1w", "run-02_T1w", "T2w"), {"entities": {"run": 2}}, {"t1": "run-02_T1w", "t2": "T2w"}),
        (("acq-mprage_T1w", "acq-spgr_T1w", "T1w"), {"entities": {"acq": "MPRAGE"}}, {"t1": "acq-mprage_T1w"}),
        (("acq-a_T1w", "acq-b_T1w", "acq-b_T2w"), {"images": {"t1": "acq-a_T1w", "t2": "T2w"}},
         {"t1": "acq-a_T1w", "t2": "acq-b_T2w"}),
    ],
    ids=["usual", "others", "named", "repeats", "padded run", "states it", "selector"],
)  # fmt: skip
def test_which_of_several_files_is_meant(tmp_path, there, options, taken):
    scans(tmp_path, "sub-01", suffixes=there)
    touch(tmp_path, "sub-01/anat/._sub-01_T1w.nii.gz")
    assert images_of(tmp_path, **options) == {"sub-01": taken}


def test_what_cannot_be_chosen_is_reported_for_every_subject(tmp_path):
    scans(tmp_path, "sub-01", "sub-02", suffixes=("run-1_T1w", "run-2_T1w"))
    message = fault_of(BIDS(root=tmp_path))
    assert all(part in message for part in ("sub-01, t1", "sub-01_run-2_T1w.nii.gz", "entities: {run: 1}"))
    assert message.count("\n") == 1
    touch(tmp_path, "sub-03/anat/sub-03_T1w.nii", "sub-03/anat/sub-03_T1w.nii.gz", "sub-02/anat/sub-01_T1w.nii.gz")
    message = fault_of(BIDS(root=tmp_path))
    assert "remove all but one" in message
    assert "the name says sub-01" in message


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
    scans(tmp_path / "none", "sub-01", suffixes=("T1w",))
    scans(tmp_path / "none", "sub-02", suffixes=("T2w",))
    assert "no session" in fault_of(BIDS(root=tmp_path / "none", images=images, incomplete="leave_out"))


def test_an_image_that_is_nowhere_is_told_with_what_is_there(tmp_path):
    scans(tmp_path, "sub-01")
    message = fault_of(BIDS(root=tmp_path, images={"t1": "T1w", "flair": "FLAIR", "mask": "gone/mask"}))
    assert all(part in message for part in ("images.flair", "sub-01_T2w.nii.gz", "images.mask"))


@pytest.mark.parametrize(
    ("options", "faults"),
    [({"images": {"t1": "*_T1w", "mask": "mask.nii.gz"}}, 2), ({"images": {"mask": "mask"}}, 1),
     ({"incomplete": "leave_out"}, 1)],
)  # fmt: skip
def test_wrong_options_are_refused_together(options, faults):
    with pytest.raises(ConfigError) as caught:
        BIDS(root=Path(), **options)
    assert len(caught.value.faults) == faults
