"""BraTS, IXI, HCP and dHCP: their names, who is one subject, and what their trees hide."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from medtrans.builtin.datasets.brats import BraTS
from medtrans.builtin.datasets.hcp import DHCP, HCP
from medtrans.builtin.datasets.ixi import IXI
from medtrans.cohort import gather
from medtrans.errors import DataError
from medtrans.settings import FractionsSplit

from .trees import configured, fault_of, names_of, touch

OLD = ("t1", "t1ce", "t2", "flair", "seg")
NEW = ("t1n", "t1c", "t2w", "t2f", "seg")


def brats(root: Path, name: str, images: tuple[str, ...]) -> None:
    sign = "_" if "2021" in name else "-"
    touch(root, *(f"{name}/{name}{sign}{image}.nii.gz" for image in images))


def test_both_namings_of_brats_give_the_same_modalities(tmp_path):
    brats(tmp_path, "BraTS2021_00000", OLD)
    brats(tmp_path, "BraTS-GLI-00003-001", NEW)
    new, old = BraTS(root=tmp_path).cases()
    assert names_of(old) == {
        "t1": "BraTS2021_00000_t1.nii.gz",
        "t1ce": "BraTS2021_00000_t1ce.nii.gz",
        "t2": "BraTS2021_00000_t2.nii.gz",
        "flair": "BraTS2021_00000_flair.nii.gz",
        "labels": "BraTS2021_00000_seg.nii.gz",
    }
    assert names_of(new) == {
        "t1": "BraTS-GLI-00003-001-t1n.nii.gz",
        "t1ce": "BraTS-GLI-00003-001-t1c.nii.gz",
        "t2": "BraTS-GLI-00003-001-t2w.nii.gz",
        "flair": "BraTS-GLI-00003-001-t2f.nii.gz",
        "labels": "BraTS-GLI-00003-001-seg.nii.gz",
    }


def test_time_points_of_a_brats_patient_and_both_editions_are_one_subject_and_cohorts_are_apart(tmp_path):
    for name in ("BraTS-GLI-00005-000", "BraTS-GLI-00005-100", "BraTS-MEN-00005-000"):
        brats(tmp_path, name, NEW)
    brats(tmp_path, "BraTS2021_00005", OLD)
    assert {case.case: case.subject for case in BraTS(root=tmp_path).cases()} == {
        "BraTS-GLI-00005-000": "00005",
        "BraTS-GLI-00005-100": "00005",
        "BraTS-MEN-00005-000": "MEN-00005",
        "BraTS2021_00005": "00005",
    }


def test_brats_archives_may_lie_in_folders_of_their_own_and_come_in_the_order_of_names(tmp_path, caplog):
    brats(tmp_path / "x/TrainingData", "BraTS-GLI-00009-000", NEW)
    brats(tmp_path / "y/ValidationData", "BraTS-GLI-00001-000", NEW[:-1])
    touch(tmp_path, "x/BraTS2021_Training_Data.tar", "__MACOSX/BraTS2021_00000/._BraTS2021_00000_t1.nii.gz")
    cases = BraTS(root=tmp_path).cases()
    assert [case.case for case in cases] == ["BraTS-GLI-00001-000", "BraTS-GLI-00009-000"]
    assert "labels" not in cases[0].images
    assert "1 of 2 cases have no labels" in caplog.text


def test_a_brats_case_that_lacks_an_image_is_named_by_the_run_that_needs_it(tmp_path):
    brats(tmp_path, "BraTS2021_00000", OLD)
    brats(tmp_path, "BraTS2021_00002", ("t1", "t2", "seg"))
    with pytest.raises(DataError, match='case "BraTS2021_00002": no flair'):
        gather(BraTS(root=tmp_path), FractionsSplit(), source=["t2"], target=["flair"], seed=0)


def test_a_root_without_brats_cases_is_told_with_what_is_there(tmp_path):
    touch(tmp_path, "BraTS2021_Training_Data.tar", "BraTS2021_00000/readme.txt")
    message = fault_of(BraTS(root=tmp_path))
    assert 'expected "BraTS2021_00000/BraTS2021_00000_t1.nii.gz"' in message
    assert "BraTS2021_Training_Data.tar" in message
    assert "no such folder" in fault_of(BraTS(root=tmp_path / "gone"))


def ixi(root: Path, modality: str, *cases: str, folder: str | None = None) -> None:
    place = f"IXI-{modality}" if folder is None else folder
    touch(root, *(f"{place}/{case}-{modality}.nii.gz" for case in cases))


GUYS, HAMMERSMITH, INSTITUTE = "IXI002-Guys-0828", "IXI012-HH-1211", "IXI035-IOP-0873"


def test_ixi_modalities_are_intersected_and_what_is_lacking_is_counted(tmp_path, caplog):
    ixi(tmp_path, "T1", GUYS, HAMMERSMITH)
    ixi(tmp_path, "T2", INSTITUTE, HAMMERSMITH)
    ixi(tmp_path, "PD", GUYS)
    touch(tmp_path, "IXI.xls", "IXI-T1/._IXI002-Guys-0828-T1.nii.gz", "IXI-T1/IXI002-Guys-0828-T1.json")
    (case,) = IXI(root=tmp_path).cases()
    assert (case.case, case.subject) == ("IXI012-HH-1211", "IXI012")
    assert names_of(case) == {"t1": "IXI012-HH-1211-T1.nii.gz", "t2": "IXI012-HH-1211-T2.nii.gz"}
    assert "1 of 3 cases have no t1 and are left out" in caplog.text
    assert "1 of 3 cases have no t2 and are left out" in caplog.text


@pytest.mark.parametrize(("modalities", "warnings"), [(("t1", "t2"), 1), (("t2", "pd"), 0), (("mra", "pd"), 1)])
def test_that_ixi_is_not_registered_is_said_once_save_for_two_echoes(tmp_path, caplog, modalities, warnings):
    for modality in modalities:
        ixi(tmp_path, modality.upper(), GUYS, INSTITUTE)
    assert len(IXI(root=tmp_path, modalities=modalities).cases()) == 2
    assert caplog.text.count("not registered") == warnings


def test_ixi_archives_unpacked_into_one_folder_are_found_and_two_copies_reported(tmp_path):
    ixi(tmp_path, "T1", GUYS, folder=".")
    ixi(tmp_path, "T2", GUYS, folder=".")
    assert [case.case for case in IXI(root=tmp_path).cases()] == [GUYS]
    ixi(tmp_path, "T1", GUYS)
    assert "are the same image; remove one" in fault_of(IXI(root=tmp_path))


def test_an_ixi_archive_that_is_not_there_is_named(tmp_path):
    ixi(tmp_path, "T1", GUYS)
    message = fault_of(IXI(root=tmp_path, modalities=("t1", "mra")))
    assert 'expected "IXI-T1/IXI002-Guys-0828-T1.nii.gz"' in message
    assert f'no mra in "{tmp_path}" fits' in message
    assert 'found "IXI-T1"' in message
    assert "unpack IXI-MRA there" in message
    ixi(tmp_path, "MRA", INSTITUTE)
    assert "no subject has all modalities" in fault_of(IXI(root=tmp_path, modalities=("t1", "mra")))


def hcp(root: Path, subject: str, *names: str) -> None:
    touch(root, *(f"{subject}/{name}.nii.gz" for name in names))


MNI = ("MNINonLinear/T1w", "MNINonLinear/T2w")


def test_hcp_images_are_those_of_the_paper(tmp_path):
    hcp(tmp_path, "100307", *MNI, "MNINonLinear/T1w_restore.2", "MNINonLinear/ribbon", "MNINonLinear/brainmask_fs")
    touch(tmp_path, "100307_3T_Structural_preproc.zip", "release-notes/T1w.nii.gz")
    (case,) = HCP(root=tmp_path).cases()
    assert (case.case, case.subject) == ("100307", "100307")
    assert case.images == {
        "t1": tmp_path / "100307/MNINonLinear/T1w.nii.gz",
        "t2": tmp_path / "100307/MNINonLinear/T2w.nii.gz",
    }


def test_hcp_subjects_without_a_t2_are_left_out_with_a_count(tmp_path, caplog):
    hcp(tmp_path, "100307", *MNI)
    hcp(tmp_path, "100408", MNI[0])
    assert [case.case for case in HCP(root=tmp_path).cases()] == ["100307"]
    assert "1 of 2 cases have no t2 and are left out" in caplog.text


@pytest.mark.parametrize(
    ("options", "t1"),
    [
        ({"restored": True}, "MNINonLinear/T1w_restore"),
        ({"restored": True, "brain": True}, "MNINonLinear/T1w_restore_brain"),
        ({"space": "native"}, "T1w/T1w_acpc_dc"),
        ({"space": "native", "restored": True}, "T1w/T1w_acpc_dc_restore"),
    ],
)
def test_hcp_has_other_versions(tmp_path, options, t1):
    hcp(tmp_path, "100307", *MNI, t1, t1.replace("T1w_", "T2w_"))
    (case,) = HCP(root=tmp_path, **options).cases()
    assert case.images["t1"] == tmp_path / f"100307/{t1}.nii.gz"


def test_hcp_mask_and_labels_are_added_when_asked_for(tmp_path, caplog):
    hcp(tmp_path, "100307", *MNI, "MNINonLinear/aparc+aseg", "MNINonLinear/brainmask_fs")
    hcp(tmp_path, "100408", *MNI, "MNINonLinear/aparc+aseg")
    first, second = HCP(root=tmp_path, mask=True, labels="aparc+aseg").cases()
    assert names_of(first)["mask"] == "brainmask_fs.nii.gz"
    assert names_of(first)["labels"] == "aparc+aseg.nii.gz"
    assert "mask" not in second.images
    assert "1 of 2 cases have no mask" in caplog.text


def test_a_root_without_hcp_subjects_is_told_with_what_is_there(tmp_path):
    hcp(tmp_path, "HCP_1200/100307", *MNI)
    message = fault_of(HCP(root=tmp_path))
    assert 'expected "<six digits>/MNINonLinear/T1w.nii.gz"' in message
    assert 'found "HCP_1200"' in message


def dhcp(root: Path, subject: str, session: str, *images: str) -> None:
    name = f"sub-{subject}/ses-{session}/anat/sub-{subject}_ses-{session}"
    touch(root, *(f"{name}_{image}.nii.gz" for image in images))


@pytest.mark.parametrize(
    ("present", "restored", "t2", "t1"),
    [
        (("T2w", "T1w", "T2w_restore", "T1w_restore"), False, "T2w", "T1w"),
        (("T2w", "T1w", "T2w_restore", "T1w_restore"), True, "T2w_restore", "T1w_restore"),
        (("T2w", "space-T2w_T1w", "desc-restore_T2w", "desc-restore_space-T2w_T1w"), False, "T2w", "space-T2w_T1w"),
        (("desc-restore_T2w", "desc-restore_space-T2w_T1w"), True, "desc-restore_T2w", "desc-restore_space-T2w_T1w"),
        (("T2w", "T1w", "desc-restore_T2w", "desc-restore_T1w", "desc-biasfield_T1w"), False, "T2w", "T1w"),
        (("T2w", "T1w", "desc-restore_T2w", "desc-restore_T1w"), True, "desc-restore_T2w", "desc-restore_T1w"),
        (("T2w", "T1w", "space-T2w_T1w"), False, "T2w", "space-T2w_T1w"),
    ],
)
def test_dhcp_names_of_all_releases(tmp_path, present, restored, t2, t1):
    dhcp(tmp_path, "CC00050XX01", "7201", *present)
    (case,) = DHCP(root=tmp_path, restored=restored).cases()
    prefix = "sub-CC00050XX01_ses-7201"
    assert (case.case, case.subject) == (prefix, "sub-CC00050XX01")
    assert names_of(case) == {"t2": f"{prefix}_{t2}.nii.gz", "t1": f"{prefix}_{t1}.nii.gz"}


def test_dhcp_sessions_without_a_t1_are_left_out_with_a_count_and_sessions_share_the_subject(tmp_path, caplog):
    dhcp(tmp_path, "CC00060XX03", "12501", "T2w", "T1w")
    dhcp(tmp_path, "CC00060XX03", "9000", "T2w", "T1w")
    dhcp(tmp_path, "CC00050XX01", "7201", "T2w")
    dhcp(tmp_path, "CC00070XX05", "10000", "T2w", "T1w")
    cases = DHCP(root=tmp_path).cases()
    assert [(case.case, case.subject) for case in cases] == [
        ("sub-CC00060XX03_ses-12501", "sub-CC00060XX03"), ("sub-CC00060XX03_ses-9000", "sub-CC00060XX03"),
        ("sub-CC00070XX05_ses-10000", "sub-CC00070XX05"),
    ]  # fmt: skip
    assert [record.message for record in caplog.records] == ["1 of 4 cases have no t1 and are left out"]


@pytest.mark.parametrize("folder", ["derivatives", "derivatives/dhcp_anat_pipeline", "rel3_dhcp_anat_pipeline"])
def test_dhcp_is_found_below_root_and_other_pipelines_are_passed_over(tmp_path, folder, caplog):
    dhcp(tmp_path / folder, "CC00050XX01", "7201", "T2w", "T1w")
    touch(tmp_path, "derivatives/dhcp_fmri_pipeline/sub-CC00050XX01/ses-7201/func/bold.nii.gz")
    assert len(DHCP(root=tmp_path).cases()) == 1
    assert caplog.text == ""


@pytest.mark.parametrize("raw", ["sourcedata", "rawdata"])
def test_dhcp_raw_data_whose_t1_is_in_another_space_are_refused(tmp_path, raw):
    dhcp(tmp_path / raw, "CC00050XX01", "7201", "T2w", "T1w")
    assert "not in one space" in fault_of(DHCP(root=tmp_path / raw))
    assert "nothing in" in fault_of(DHCP(root=tmp_path))


def test_dhcp_mask_and_labels_are_added_when_asked_for(tmp_path):
    dhcp(tmp_path, "A", "1", "T2w", "T1w", "brainmask_bet", "ribbon", "drawem_tissue_labels")
    dhcp(tmp_path, "B", "1", "T2w", "space-T2w_T1w", "desc-bet_space-T2w_brainmask", "desc-drawem9_space-T2w_dseg")
    dhcp(tmp_path, "C", "1", "T2w", "T1w", "desc-brain_mask", "desc-drawem9_dseg", "desc-ribbon_dseg")
    cases = DHCP(root=tmp_path, mask=True, labels="tissues").cases()
    assert [names_of(case)["mask"].partition("ses-1_")[2] for case in cases] == [
        "brainmask_bet.nii.gz", "desc-bet_space-T2w_brainmask.nii.gz", "desc-brain_mask.nii.gz"
    ]  # fmt: skip
    assert all("labels" in case.images for case in cases)
    assert names_of(DHCP(root=tmp_path, labels="ribbon").cases()[2])["labels"].endswith("desc-ribbon_dseg.nii.gz")


def test_a_dhcp_root_without_pairs_is_told_with_what_is_there_and_what_to_try(tmp_path):
    dhcp(tmp_path, "CC00050XX01", "7201", "desc-restore_T2w", "desc-restore_space-T2w_T1w")
    message = fault_of(DHCP(root=tmp_path))
    assert 'expected "sub-<id>/ses-<n>/anat/sub-<id>_ses-<n>_T2w.nii.gz"' in message
    assert 'found "sub-CC00050XX01"' in message
    assert "restored: true" in message


@pytest.mark.parametrize("dataset", [BraTS, IXI, HCP, DHCP])
def test_a_root_that_is_not_there_is_told_with_what_lies_beside_it(tmp_path, dataset):
    touch(tmp_path, "Data/readme")
    message = fault_of(dataset(root=tmp_path / "data2"))
    assert f'root: no such folder "{tmp_path / "data2"}"; "{tmp_path}" holds "Data"' in message
    assert "so that it holds" in message


@pytest.mark.parametrize(
    ("dataset", "options"),
    [
        (BraTS, {}),
        (IXI, {"modalities": ["t1"]}),
        (HCP, {"space": "mni", "restored": False, "labels": "ribbon"}),
        (DHCP, {"restored": False, "labels": "tissues"}),
    ],
)
def test_options_come_from_a_config(tmp_path, dataset, options, caplog):
    brats(tmp_path, "BraTS2021_00000", OLD)
    ixi(tmp_path, "T1", GUYS)
    hcp(tmp_path, "100307", *MNI)
    dhcp(tmp_path, "CC00050XX01", "7201", "T2w", "T1w")
    with caplog.at_level(logging.ERROR):
        assert len(configured(dataset, {"root": str(tmp_path), **options}).cases()) == 1


def test_a_link_to_nowhere_is_a_missing_file_and_not_a_missing_case(tmp_path):
    hcp(tmp_path, "100307", MNI[0])
    (tmp_path / "100307/MNINonLinear/T2w.nii.gz").symlink_to(tmp_path / "annex/object")
    with pytest.raises(DataError, match='case "100307", t2: no such file'):
        gather(
            HCP(root=tmp_path),
            FractionsSplit(train=1.0, validation=0.0, test=0.0),
            source=["t1"],
            target=["t2"],
            seed=0,
        )
