"""A starter config from the names of images: it loads, lists the right pairs, and says what it did not understand."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from medtrans.components import Case
from medtrans.config import Experiment, load_config
from medtrans.errors import ConfigError, DataError, SetupError
from medtrans.naming import modality_of, pattern_of
from medtrans.starter import Starter, write_starter


def tree(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def started(tmp_path: Path, *names: str) -> tuple[Starter, Experiment, list[Case]]:
    """What `init` writes for a tree, loaded as a config, and the cases it lists."""
    starter = write_starter(tree(tmp_path / "data", *names), tmp_path / "config.yaml")
    experiment = load_config([starter.path])
    return starter, experiment, list(experiment.build("dataset").cases())


def listed(cases: list[Case], *modalities: str) -> set[tuple[str, ...]]:
    return {(case.subject, *(Path(str(case.images[modality])).name for modality in modalities)) for case in cases}


def test_a_flat_folder(tmp_path):
    names = [f"case{n:02d}_{kind}.nii.gz" for n in range(6) for kind in ("T1", "T2", "brain_mask")]
    starter, experiment, cases = started(tmp_path, *names, "README.txt")
    assert (starter.source, starter.target) == ("t1", "t2")
    assert experiment.config.dataset.options["images"] == {
        "t1": "{subject}_T1.nii.gz", "t2": "{subject}_T2.nii.gz", "mask": "{subject}_brain_mask.nii.gz",
    }  # fmt: skip
    assert listed(cases, "t1", "t2", "mask") == {
        (f"case{n:02d}", *(f"case{n:02d}_{kind}.nii.gz" for kind in ("T1", "T2", "brain_mask"))) for n in range(6)
    }
    assert starter.notes == ("t1 to t2: 6 cases of 6 subjects, by the dataset paired_folders", "also there: mask (6)")


def test_a_folder_for_each_subject(tmp_path):
    names = [f"{name}/scans/{kind}.nii" for name in ("anna", "bert", "carl") for kind in ("flair", "t1", "seg")]
    _, experiment, cases = started(tmp_path, *names)
    assert experiment.config.dataset.options["images"]["t1"] == "{subject}/scans/t1.nii"
    assert {case.subject for case in cases} == {"anna", "bert", "carl"}
    assert set(cases[0].images) == {"t1", "flair", "labels"}


def test_a_folder_for_each_modality(tmp_path):
    names = [f"{kind}/{n:03d}.mha" for n in range(4) for kind in ("CBCT", "CT")]
    starter, experiment, cases = started(tmp_path, *names)
    assert (starter.source, starter.target) == ("cbct", "ct")
    assert experiment.config.dataset.options["images"] == {"cbct": "CBCT/{subject}.mha", "ct": "CT/{subject}.mha"}
    assert len(cases) == 4


def test_sessions_in_a_name_stay_with_their_subject(tmp_path):
    names = [f"sub{n:02d}_ses{visit}_{kind}.nii.gz" for n in range(5) for visit in (1, 2) for kind in ("T1w", "T2w")]
    _, experiment, cases = started(tmp_path, *names)
    assert experiment.config.dataset.options["images"]["t1"] == "{subject}_{session}_T1w.nii.gz"
    assert {case.subject for case in cases} == {f"sub{n:02d}" for n in range(5)}
    assert len(cases) == 10


def test_a_session_before_the_subject_is_no_subject(tmp_path):
    names = [f"ses-{visit}/p{n}/{kind}.nii.gz" for n in range(5) for visit in (1, 2, 3) for kind in ("t1", "t2")]
    _, _, cases = started(tmp_path, *names)
    assert {case.subject for case in cases} == {f"p{n}" for n in range(5)}


def test_a_mask_without_the_sessions_field_serves_all_of_them(tmp_path):
    names = [f"sub-{n}/ses-{visit}/{kind}.nii.gz" for n in range(4) for visit in "ab" for kind in ("mr", "ct")]
    names += [f"sub-{n}/mask.nii.gz" for n in range(4)]
    _, _, cases = started(tmp_path, *names)
    assert len(cases) == 8
    assert all("mask" in case.images for case in cases)


def test_names_of_different_length(tmp_path):
    people = ("john_smith", "anna-maria_van_der_lee", "bo")
    _, _, cases = started(tmp_path, *(f"{name}/{name}_{kind}.nii.gz" for name in people for kind in ("T1", "T2")))
    assert {case.subject for case in cases} == set(people)


def test_one_of_two_versions_is_taken_and_the_other_told(tmp_path):
    names = [f"{n:02d}/{kind}.nii.gz" for n in range(5) for kind in ("t1", "t2")]
    starter, _, cases = started(tmp_path, *names, "old/extra/deep/01_t1.nii.gz", "01/localizer.nii.gz")
    assert len(cases) == 5
    assert "not understood and left out: 01/localizer.nii.gz" in starter.notes
    assert "not among the cases and left out: old/extra/deep/01_t1.nii.gz" in starter.notes


def test_synthrad(tmp_path):
    names = [f"Task1/pelvis/1PA{n:03d}/{kind}.nii.gz" for n in range(5) for kind in ("mr", "ct", "mask")]
    starter, experiment, cases = started(tmp_path, *names)
    assert experiment.config.dataset.name == "synthrad2023"
    assert experiment.config.dataset.options["task"] == 1
    assert (starter.source, starter.target, len(cases)) == ("mr", "ct", 5)
    assert experiment.config.preprocess.intensity["mr"].name == "percentile"
    assert experiment.config.preprocess.intensity["ct"].name == "window"


def test_names_almost_like_synthrads(tmp_path):
    names = [f"pelvis/P{n:03d}/{kind}.nii.gz" for n in range(5) for kind in ("mr", "ct", "mask")]
    starter, experiment, cases = started(tmp_path, *names)
    assert experiment.config.dataset.name == "paired_folders"
    assert (starter.source, starter.target, len(cases)) == ("mr", "ct", 5)


@pytest.mark.parametrize("place", ["", "rawdata/"])
def test_bids(tmp_path, place):
    names = [
        f"{place}sub-{n:02d}/ses-{visit}/anat/sub-{n:02d}_ses-{visit}_{kind}.nii.gz"
        for n in range(5)
        for visit in (1, 2)
        for kind in ("T1w", "T2w", "FLAIR")
    ]
    starter, experiment, cases = started(tmp_path, *names, f"{place}sub-00/ses-1/func/sub-00_ses-1_bold.nii.gz")
    assert experiment.config.dataset.name == "bids"
    assert len(cases) == 10
    assert {case.subject for case in cases} == {f"sub-{n:02d}" for n in range(5)}
    assert any("sub-00_ses-1_bold.nii.gz" in note for note in starter.notes)


def test_bids_sessions_that_lack_an_image_are_left_out(tmp_path):
    names = [f"sub-{n:02d}/anat/sub-{n:02d}_{kind}.nii.gz" for n in range(5) for kind in ("T1w", "T2w")]
    _, _, cases = started(tmp_path, *names, "sub-99/anat/sub-99_T1w.nii.gz")
    assert len(cases) == 5
    assert all({"t1", "t2"} <= set(case.images) for case in cases)


@pytest.mark.parametrize(
    ("dataset", "names"),
    [
        ("brats", [f"x/BraTS2021_{n:05d}/BraTS2021_{n:05d}_{kind}.nii.gz" for n in range(4) for kind in ("t1", "t2")]),
        ("ixi", [f"IXI-{k}/IXI{n:03d}-HH-{n:04d}-{k}.nii.gz" for n in range(4) for k in ("T1", "T2")]),
        ("hcp", [f"HCP/10030{n}/MNINonLinear/{kind}.nii.gz" for n in range(4) for kind in ("T1w", "T2w")]),
        ("synthrad2025", [f"Task2/HN/2HNA{n:03d}/{kind}.mha" for n in range(4) for kind in ("cbct", "ct")]),
    ],
)
def test_collections_are_known_by_their_names(tmp_path, dataset, names):
    _, experiment, cases = started(tmp_path, *names)
    assert experiment.config.dataset.name == dataset
    assert len(cases) == 4


@pytest.mark.parametrize("subjects", [3, 4, 5, 12])
def test_every_split_gets_a_subject(tmp_path, subjects):
    from medtrans.cohort import gather

    names = [f"p{n:02d}_{kind}.nii.gz" for n in range(subjects) for kind in ("t1", "t2")]
    _, experiment, _ = started(tmp_path, *names)
    config = experiment.config
    cohort = gather(experiment.build("dataset"), config.split, source=["t1"], target=["t2"], seed=0)
    assert len(cohort.members) == subjects


def test_too_few_subjects_are_told(tmp_path):
    starter, _, _ = started(tmp_path, *(f"p{n}_{kind}.nii.gz" for n in range(2) for kind in ("t1", "t2")))
    assert any("at least 3 subjects" in note for note in starter.notes)


def test_the_most_complete_pair_is_chosen(tmp_path):
    names = [f"p{n}/{kind}.nii.gz" for n in range(6) for kind in ("t2", "flair")]
    starter, _, _ = started(tmp_path, *names, "p0/t1.nii.gz", "p1/t1.nii.gz", "p2/t1.nii.gz")
    assert (starter.source, starter.target) == ("t2", "flair")
    assert "also there: t1 (3)" in starter.notes


def test_a_root_with_signs_that_mean_something_in_yaml(tmp_path):
    root = tree(tmp_path / 'da: ta #1 "ö"', *(f"{n}/{kind}.nii" for n in range(3) for kind in ("t1", "t2")))
    write_starter(root, tmp_path / "c.yaml")
    assert load_config([tmp_path / "c.yaml"]).config.dataset.options["root"] == str(root)


def test_a_file_is_never_overwritten(tmp_path):
    root = tree(tmp_path / "data", *(f"{n}/{kind}.nii" for n in range(3) for kind in ("t1", "t2")))
    for output in (tmp_path / "config.yaml", tmp_path / "link.yaml"):
        if output.name == "link.yaml":
            output.symlink_to(tmp_path / "nowhere")
        else:
            output.write_text("mine")
        with pytest.raises(ConfigError, match="is there already"):
            write_starter(root, output)
    assert (tmp_path / "config.yaml").read_text() == "mine"
    assert not (tmp_path / "nowhere").exists()


def test_what_cannot_be_done_is_said(tmp_path):
    with pytest.raises(ConfigError, match="no such folder"):
        write_starter(tmp_path / "gone", tmp_path / "c.yaml")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no image found"):
        write_starter(tmp_path / "empty", tmp_path / "c.yaml")
    root = tree(tmp_path / "data", "a/t1.nii.gz", "b/t1.nii.gz", "c/stuff.nii.gz")
    with pytest.raises(DataError, match=r"no two modalities.*t1 \(2\)"):
        write_starter(root, tmp_path / "c.yaml")
    tree(root, *(f"{n}/{kind}.nii.gz" for n in "abc" for kind in ("t1", "t2")))
    with pytest.raises(SetupError, match="cannot be written"):
        write_starter(root, tmp_path / "gone" / "c.yaml")
    assert not (tmp_path / "c.yaml").exists()


def test_the_config_is_commented_and_plain(tmp_path):
    starter, _, _ = started(tmp_path, *(f"{n}/{kind}.nii.gz" for n in range(3) for kind in ("t1", "ct")))
    text = starter.path.read_text()
    assert text.count("#") > 10
    assert "$" not in text
    assert yaml.safe_load(text)["preprocess"]["intensity"]["ct"]["options"]["range"] == [-1024.0, 3000.0]


@pytest.mark.parametrize(
    ("path", "modality"),
    [
        ("sub-01_T1w.nii.gz", "t1"), ("a/T1/001.nii", "t1"), ("x_t1ce.nii.gz", "t1ce"), ("x_T1_Gd.nii.gz", "t1ce"),
        ("sub-1_ce-gadolinium_T1w.nii.gz", "t1ce"), ("x-t1c.nii.gz", "t1ce"), ("x_T2_FLAIR.nii.gz", "flair"),
        ("x-t2f.nii.gz", "flair"), ("x_CBCT.mha", "cbct"), ("x_ct.nrrd", "ct"), ("MR/x.nii", "mr"), ("x_PD.nii", "pd"),
        ("x_T1_mask.nii.gz", "mask"), ("x_T1_brainmask.nii.gz", "mask"), ("x_seg.nii.gz", "labels"),
        ("labels/x_01.nii.gz", "labels"), ("ct/x_t1.nii", "t1"), ("doctor.nii.gz", None), ("t10/x.nii", None),
    ],
)  # fmt: skip
def test_a_modality_is_a_whole_word_of_the_nearest_name(path, modality):
    assert modality_of(path) == modality


def test_names_that_do_not_differ_have_no_subject():
    assert pattern_of(["a/t1.nii"], "t1", by_word=True) is None
    assert pattern_of([], "t1", by_word=True) is None
