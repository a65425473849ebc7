"""BraTS, IXI, HCP, dHCP and SynthRAD: their names, who is one subject, and what their trees hide."""

from __future__ import annotations

from pathlib import Path

import pytest

from medtrans.builtin.datasets.brats import BraTS
from medtrans.builtin.datasets.hcp import DHCP, HCP
from medtrans.builtin.datasets.ixi import IXI
from medtrans.builtin.datasets.synthrad import SynthRAD2023, SynthRAD2025
from tests.builtin.trees import fault_of, names_of, touch

OLD = ("t1", "t1ce", "t2", "flair", "seg")
NEW = ("t1n", "t1c", "t2w", "t2f", "seg")


def brats(root: Path, *names: str, lacking: str = "") -> None:
    for name in names:
        sign, images = ("_", OLD) if "2021" in name else ("-", NEW)
        touch(root, *(f"{name}/{name}{sign}{image}.nii.gz" for image in images if image != lacking))


@pytest.mark.parametrize(("name", "sign", "images"), [("BraTS2021_00000", "_", OLD), ("BraTS-GLI-00003-001", "-", NEW)])
def test_both_namings_of_brats_give_the_same_modalities(tmp_path, name, sign, images):
    brats(tmp_path, name)
    (case,) = BraTS(root=tmp_path).cases()
    modalities = ("t1", "t1ce", "t2", "flair", "labels")
    assert names_of(case) == {
        modality: f"{name}{sign}{image}.nii.gz" for modality, image in zip(modalities, images, strict=True)
    }


def test_time_points_of_a_brats_patient_and_both_editions_are_one_subject_and_cohorts_are_apart(tmp_path):
    brats(tmp_path, "BraTS-GLI-00005-000", "BraTS-GLI-00005-100", "BraTS-MEN-00005-000", "BraTS2021_00005")
    assert {case.case: case.subject for case in BraTS(root=tmp_path).cases()} == {
        "BraTS-GLI-00005-000": "00005",
        "BraTS-GLI-00005-100": "00005",
        "BraTS-MEN-00005-000": "MEN-00005",
        "BraTS2021_00005": "00005",
    }


def test_brats_archives_may_lie_in_folders_of_their_own_and_come_in_the_order_of_names(tmp_path, caplog):
    brats(tmp_path / "x/TrainingData", "BraTS-GLI-00009-000")
    brats(tmp_path / "y/ValidationData", "BraTS-GLI-00001-000", lacking="seg")
    touch(tmp_path, "x/BraTS2021_Training_Data.tar", "__MACOSX/BraTS2021_00000/._BraTS2021_00000_t1.nii.gz")
    cases = BraTS(root=tmp_path).cases()
    assert [case.case for case in cases] == ["BraTS-GLI-00001-000", "BraTS-GLI-00009-000"]
    assert "labels" not in cases[0].images
    assert "1 of 2 cases have no labels" in caplog.text


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
    assert f'no mra in "{tmp_path}" fits' in message
    assert "unpack IXI-MRA there" in message
    ixi(tmp_path, "MRA", INSTITUTE)
    assert "none with all of t1, mra" in fault_of(IXI(root=tmp_path, modalities=("t1", "mra")))


MNI = ("MNINonLinear/T1w", "MNINonLinear/T2w")


@pytest.mark.parametrize(
    ("options", "t1"),
    [
        ({}, "MNINonLinear/T1w"),
        ({"restored": True}, "MNINonLinear/T1w_restore"),
        ({"restored": True, "brain": True}, "MNINonLinear/T1w_restore_brain"),
        ({"space": "native"}, "T1w/T1w_acpc_dc"),
        ({"space": "native", "restored": True}, "T1w/T1w_acpc_dc_restore"),
    ],
)
def test_hcp_has_several_versions(tmp_path, options, t1):
    t2 = "T2w".join(t1.rsplit("T1w", 1))
    names = (*MNI, t1, t2, "MNINonLinear/T1w_restore.2", "MNINonLinear/ribbon", "MNINonLinear/brainmask_fs")
    touch(tmp_path, "100307_3T_Structural_preproc.zip", "release-notes/T1w.nii.gz")
    touch(tmp_path, *(f"100307/{name}.nii.gz" for name in names))
    (case,) = HCP(root=tmp_path, **options).cases()
    assert (case.case, case.subject) == ("100307", "100307")
    assert case.images == {"t1": tmp_path / f"100307/{t1}.nii.gz", "t2": tmp_path / f"100307/{t2}.nii.gz"}


def test_hcp_mask_and_labels_are_added_when_asked_for(tmp_path, caplog):
    for subject, names in (("100307", ("brainmask_fs", "T2w")), ("100408", ("T2w",)), ("100409", ())):
        touch(tmp_path, *(f"{subject}/MNINonLinear/{name}.nii.gz" for name in ("T1w", "aparc+aseg", *names)))
    first, second = HCP(root=tmp_path, mask=True, labels="aparc+aseg").cases()
    assert names_of(first)["mask"] == "brainmask_fs.nii.gz"
    assert names_of(first)["labels"] == "aparc+aseg.nii.gz"
    assert "mask" not in second.images
    assert "1 of 2 cases have no mask" in caplog.text
    assert "1 of 3 cases have no t2 and are left out" in caplog.text


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
    for subject, session in (("CC00060XX03", "12501"), ("CC00060XX03", "9000"), ("CC00070XX05", "10000")):
        dhcp(tmp_path, subject, session, "T2w", "T1w")
    dhcp(tmp_path, "CC00050XX01", "7201", "T2w")
    assert [(case.case, case.subject) for case in DHCP(root=tmp_path).cases()] == [
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
    dhcp(tmp_path, "CC00050XX01", "7201", "desc-restore_T2w", "desc-restore_space-T2w_T1w")
    assert "restored: true" in fault_of(DHCP(root=tmp_path))


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


def synthrad(root: Path, *ids: str, folder: str = "Task1/pelvis", images: str = "mr ct mask") -> None:
    """Cases as an archive of 2023 has them, or of 2025 where ids have three letters."""
    ending = "mha" if ids[0][1:4].isalpha() else "nii.gz"
    touch(root, f"{folder}/overview/1_pelvis_train.xlsx", f"{folder}/overviews/{ids[0]}_train.png")
    touch(root, *(f"{folder}/{name}/{image}.{ending}" for name in ids for image in images.split()))


def ids(dataset: SynthRAD2023 | SynthRAD2025) -> list[str]:
    return [case.case for case in dataset.cases()]


@pytest.mark.parametrize("root", ["", "Task1", "Task1/pelvis"])
def test_root_may_be_the_challenge_the_task_or_the_region(tmp_path, root):
    synthrad(tmp_path, "1PC004", "1PA001")
    cases = SynthRAD2023(root=tmp_path / root, task=1, region="pelvis").cases()
    assert [(case.case, case.subject, case.split) for case in cases] == [
        ("1PA001", "1PA001", None), ("1PC004", "1PC004", None)
    ]  # fmt: skip
    assert cases[0].images == {name: tmp_path / f"Task1/pelvis/1PA001/{name}.nii.gz" for name in ("mr", "ct", "mask")}


def test_task_region_and_centres_choose_by_the_id(tmp_path):
    synthrad(tmp_path, "1PA001", "1PC001")
    synthrad(tmp_path, "1BA001", "1BB002", folder="Task1/brain")
    synthrad(tmp_path, "2PA001", folder="Task2/pelvis", images="cbct ct mask")
    assert ids(SynthRAD2023(root=tmp_path, task=1)) == ["1BA001", "1BB002", "1PA001", "1PC001"]
    assert ids(SynthRAD2023(root=tmp_path, task=1, region="brain")) == ["1BA001", "1BB002"]
    assert ids(SynthRAD2023(root=tmp_path, task=1, centres=("A", "B"))) == ["1BA001", "1BB002", "1PA001"]
    assert ids(SynthRAD2023(root=tmp_path, task=2)) == ["2PA001"]


def test_only_ids_are_cases(tmp_path, caplog):
    synthrad(tmp_path, "1PA001", "1PD001", "1PA01", "1PA001_old", "overview/1PA002", "2PA001")
    synthrad(tmp_path, "1PA003", folder=".snapshot/Task1/pelvis")
    touch(tmp_path, "__MACOSX/Task1/pelvis/1PA004/._ct.nii.gz", "Task1/pelvis/1PA005/notes.txt", "Task1/1PA006")
    assert ids(SynthRAD2023(root=tmp_path, task=1)) == ["1PA001"]
    assert caplog.text == ""


def test_validation_inputs_and_missing_masks_are_counted_and_not_named(tmp_path, caplog):
    synthrad(tmp_path, "1PA001", "1PA002")
    (tmp_path / "Task1/pelvis/1PA002/mask.nii.gz").unlink()
    synthrad(tmp_path, "1PA003", "1PA007", folder="Task1_val/pelvis", images="mr mask")
    assert ids(SynthRAD2023(root=tmp_path, task=1)) == ["1PA001", "1PA002"]
    assert "2 of 4 cases have no ct and are left out" in caplog.text
    assert "1 of 2 cases have no mask" in caplog.text
    assert "1PA003" not in caplog.text


def test_a_validation_archive_alone_is_told_apart_from_a_wrong_root(tmp_path):
    synthrad(tmp_path, "1PA003", images="mr mask")
    assert "1 cases are there, none with all of mr, ct" in fault_of(SynthRAD2023(root=tmp_path, task=1))


def test_images_of_a_case_may_come_in_two_archives_and_twice_is_reported(tmp_path):
    synthrad(tmp_path, "1ABA005", folder="synthRAD2025_Task1_Val_Input/Task1/AB", images="mr mask")
    synthrad(tmp_path, "1ABA005", folder="synthRAD2025_Task1_Val_GT/Task1/AB", images="ct")
    (case,) = SynthRAD2025(root=tmp_path, task=1).cases()
    assert set(case.images) == {"mr", "ct", "mask"}
    synthrad(tmp_path, "1ABA005", folder="copy/Task1/AB", images="ct")
    assert "are both ct of 1ABA005" in fault_of(SynthRAD2025(root=tmp_path, task=1))


def test_2025_centre_d_comes_as_an_archive_beside_the_others(tmp_path):
    synthrad(tmp_path, "1HNA001", "1HNC014", folder="synthRAD2025_Task1_Train/synthRAD2025_Task1_Train/Task1/HN")
    synthrad(tmp_path, "1HND001", folder="synthRAD2025_Task1_Train_D/Task1/HN")
    touch(tmp_path, *(f"synthRAD2025_Task1_Train/Task1/TH/1THB011/{name}.nii.gz" for name in ("mr", "ct", "mask")))
    synthrad(tmp_path, "2HNE001", folder="synthRAD2025_Task2_Train/Task2/HN", images="cbct ct mask")
    assert ids(SynthRAD2025(root=tmp_path, task=1)) == ["1HNA001", "1HNC014", "1HND001", "1THB011"]
    assert ids(SynthRAD2025(root=tmp_path, task=1, regions=("HN",), centres=("A", "D"))) == ["1HNA001", "1HND001"]
    (case,) = SynthRAD2025(root=tmp_path, task=2).cases()
    assert case.images["cbct"].name == "cbct.mha"
