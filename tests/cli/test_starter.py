"""A starter config from the names of images: it loads, lists the right pairs, and says what it did not understand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from medtrans.cli.modalities import modality_of
from medtrans.cli.starter import StarterConfig, write_starter
from medtrans.config.experiment import Experiment
from medtrans.config.loading import load_config
from medtrans.data.cohort import build_cohort
from medtrans.errors import ConfigError, DataError, SetupError
from medtrans.plugins.interfaces import Case


def tree(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def started(tmp_path: Path, *names: str) -> tuple[StarterConfig, Experiment, list[Case]]:
    """What `init` writes for a tree, loaded as a config, and the cases it lists."""
    starter = write_starter(tree(tmp_path / "data", *names), tmp_path / "config.yaml")
    experiment = load_config([starter.path])
    return starter, experiment, list(experiment.build("dataset").cases())


def listed(cases: list[Case], *modalities: str) -> set[tuple[str, ...]]:
    return {(case.subject, *(Path(str(case.images[modality])).name for modality in modalities)) for case in cases}


def images(pattern: str, kinds: Sequence[str], subjects: int = 5, visits: Sequence[object] = ("",)) -> list[str]:
    """Names by a pattern with {n}, {kind} and, where there are visits, {visit}."""
    return [pattern.format(n=n, kind=kind, visit=v) for n in range(subjects) for v in visits for kind in kinds]


def test_a_flat_folder(tmp_path):
    names = images("case{n:02d}_{kind}.nii.gz", ("T1", "T2", "brain_mask"), 6)
    starter, experiment, cases = started(tmp_path, *names, "README.txt")
    assert (starter.source, starter.target) == ("t1", "t2")
    assert experiment.config.dataset.options["images"] == {
        "t1": "{subject}_T1.nii.gz", "t2": "{subject}_T2.nii.gz", "mask": "{subject}_brain_mask.nii.gz",
    }  # fmt: skip
    assert listed(cases, "t1", "t2", "mask") == {
        (f"case{n:02d}", *(f"case{n:02d}_{kind}.nii.gz" for kind in ("T1", "T2", "brain_mask"))) for n in range(6)
    }
    assert starter.notes == ("t1 to t2: 6 cases of 6 subjects, by the dataset paired_folders", "also there: mask (6)")


PEOPLE = ["john_smith", "anna-maria_van_der_lee", "bo"]


@pytest.mark.parametrize(
    ("names", "pair", "subjects", "listed"),
    [
        # a folder for each modality
        (images("{kind}/{n:03d}.mha", ("CBCT", "CT"), 4), "cbct ct", [f"{n:03d}" for n in range(4)], 4),
        # a session in a name stays with its subject; before the subject it is none
        (images("sub{n}_ses{visit}_{kind}.nii.gz", ("T1w", "T2w"), visits=(1, 2)), "t1 t2",
         [f"sub{n}" for n in range(5)], 10),
        (images("ses-{visit}/p{n}/{kind}.nii.gz", ("t1", "t2"), visits=(1, 2, 3)), "t1 t2",
         [f"p{n}" for n in range(5)], 15),
        # names of different length, in folders and again in files
        ([f"{name}/{name}_{kind}.nii.gz" for name in PEOPLE for kind in ("T1", "T2")], "t1 t2", PEOPLE, 3),
        # almost SynthRAD
        (images("pelvis/P{n}/{kind}.nii.gz", ("mr", "ct", "mask")), "mr ct", [f"P{n}" for n in range(5)], 5),
    ],
)  # fmt: skip
def test_subjects_are_found_in_folders_and_files(tmp_path, names, pair, subjects, listed):
    starter, experiment, cases = started(tmp_path, *names)
    assert experiment.config.dataset.name == "paired_folders"
    assert (f"{starter.source} {starter.target}", len(cases)) == (pair, listed)
    assert {case.subject for case in cases} == set(subjects)


def test_a_mask_without_the_sessions_field_serves_all_of_them(tmp_path):
    names = images("sub-{n}/ses-{visit}/{kind}.nii.gz", ("mr", "ct"), 4, "ab") + images("sub-{n}/mask.nii.gz", " ", 4)
    _, _, cases = started(tmp_path, *names)
    assert len(cases) == 8
    assert all("mask" in case.images for case in cases)


def test_one_of_two_versions_is_taken_and_the_other_told(tmp_path):
    names = images("{n:02d}/{kind}.nii.gz", ("t1", "t2"))
    starter, _, cases = started(tmp_path, *names, "old/extra/deep/01_t1.nii.gz", "01/localizer.nii.gz")
    assert len(cases) == 5
    assert "not understood and left out: 01/localizer.nii.gz" in starter.notes
    assert "not among the cases and left out: old/extra/deep/01_t1.nii.gz" in starter.notes


@pytest.mark.parametrize("place", ["", "rawdata/"])
def test_bids_without_sessions_that_lack_an_image(tmp_path, place):
    names = images(
        place + "sub-0{n}/ses-{visit}/anat/sub-0{n}_ses-{visit}_{kind}.nii.gz", ("T1w", "T2w"), visits=(1, 2)
    )
    others = [f"{place}sub-00/ses-1/func/sub-00_ses-1_bold.nii.gz", f"{place}sub-99/anat/sub-99_T1w.nii.gz"]
    starter, experiment, cases = started(tmp_path, *names, *others)
    assert experiment.config.dataset.name == "bids"
    assert len(cases) == 10
    assert {case.subject for case in cases} == {f"sub-0{n}" for n in range(5)}
    assert any("sub-00_ses-1_bold.nii.gz" in note for note in starter.notes)


@pytest.mark.parametrize(
    ("dataset", "names"),
    [
        ("brats", images("x/BraTS2021_{n:05d}/BraTS2021_{n:05d}_{kind}.nii.gz", ("t1", "t2"))),
        ("ixi", images("IXI-{kind}/IXI{n:03d}-HH-{n:04d}-{kind}.nii.gz", ("T1", "T2"))),
        ("hcp", images("HCP/10030{n}/MNINonLinear/{kind}.nii.gz", ("T1w", "T2w"))),
        ("synthrad2023", images("Task1/pelvis/1PA{n:03d}/{kind}.nii.gz", ("mr", "ct", "mask"))),
        ("synthrad2025", images("Task2/HN/2HNA{n:03d}/{kind}.mha", ("cbct", "ct"))),
    ],
)
def test_collections_are_known_by_their_names(tmp_path, dataset, names):
    starter, experiment, cases = started(tmp_path, *names)
    assert experiment.config.dataset.name == dataset
    assert len(cases) == 5
    assert experiment.config.dataset.options.get("task") == {"synthrad2023": 1, "synthrad2025": 2}.get(dataset)
    scaling = experiment.config.preprocess.intensity[starter.target].name
    assert scaling == ("window" if starter.target == "ct" else "percentile")


def test_every_split_gets_a_subject_or_too_few_are_told(tmp_path):
    for subjects in (2, 3, 12):
        starter, experiment, _ = started(tmp_path / str(subjects), *images("p{n}_{kind}.nii", ("t1", "t2"), subjects))
        assert any("at least 3 subjects" in note for note in starter.notes) == (subjects == 2)
        if subjects > 2:
            build_cohort(experiment.build("dataset"), experiment.config.split, source=["t1"], target=["t2"], seed=0)


def test_the_most_complete_pair_is_chosen(tmp_path):
    names = images("p{n}/{kind}.nii.gz", ("t2", "flair"), 6)
    starter, _, _ = started(tmp_path, *names, "p0/t1.nii.gz", "p1/t1.nii.gz", "p2/t1.nii.gz")
    assert (starter.source, starter.target) == ("t2", "flair")
    assert "also there: t1 (3)" in starter.notes


def test_a_root_with_signs_that_mean_something_in_yaml(tmp_path):
    root = tree(tmp_path / 'da: ta #1 "ö"', *images("{n}/{kind}.nii.gz", ("t1", "ct"), 3))
    starter = write_starter(root, tmp_path / "c.yaml")
    assert load_config([starter.path]).config.dataset.options["root"] == str(root)
    assert starter.path.read_text().count("#") > 10  # it explains itself


def test_a_file_is_never_overwritten(tmp_path):
    root = tree(tmp_path / "data", *images("{n}/{kind}.nii", ("t1", "t2"), 3))
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
    with pytest.raises(DataError, match=r"t1 \(2\)"):
        write_starter(root, tmp_path / "c.yaml")
    tree(root, *(f"{n}/{kind}.nii.gz" for n in "abc" for kind in ("t1", "t2")))
    with pytest.raises(SetupError, match="cannot be written"):
        write_starter(root, tmp_path / "gone" / "c.yaml")
    assert not (tmp_path / "c.yaml").exists()


@pytest.mark.parametrize(
    ("path", "modality"),
    [
        ("sub-01_T1w.nii.gz", "t1"), ("a/T1/001.nii", "t1"), ("x_T1_Gd.nii.gz", "t1ce"), ("x-t1c.nii.gz", "t1ce"),
        ("sub-1_ce-gadolinium_T1w.nii.gz", "t1ce"), ("x_T2_FLAIR.nii.gz", "flair"), ("x-t2f.nii.gz", "flair"),
        ("x_CBCT.mha", "cbct"), ("MR/x.nii", "mr"), ("x_PD.nii", "pd"), ("x_T1_brainmask.nii.gz", "mask"),
        ("x_seg.nii.gz", "labels"), ("labels/x_01.nii.gz", "labels"), ("ct/x_t1.nii", "t1"), ("doctor.nii.gz", None),
        ("t10/x.nii", None),
    ],
)  # fmt: skip
def test_a_modality_is_a_whole_word_of_the_nearest_name(path, modality):
    assert modality_of(path) == modality
