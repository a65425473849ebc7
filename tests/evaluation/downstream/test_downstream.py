"""What synthetic images are worth to a segmenter: who takes part, what is left behind, and that a leak is refused."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import medtrans
from medtrans.builtin.methods.segmentation import SegmentationMethod
from medtrans.config.loading import load_config
from medtrans.data.datamodule import load_cohort
from medtrans.errors import ConfigError, DataError
from medtrans.evaluation.downstream.experiment import arm_summary, plan_downstream, ratio_of_means
from medtrans.evaluation.downstream.roles import assign_roles
from medtrans.evaluation.downstream.segmenter import segmenter_experiment
from medtrans.evaluation.folders import score_label_maps
from medtrans.evaluation.scores import CaseScores, Column
from medtrans.pipeline import downstream
from medtrans.volume import Volume, read, write

SMALL = {"name": "unet", "options": {"width": 2, "levels": 2, "convs": 0}}


def config_of(folder: Path, **changes: Any) -> dict[str, Any]:
    """A run that learns nothing, with segmenters that learn nothing, in seconds."""
    return {
        "output_dir": str(folder),
        "dataset": {"name": "phantom", "options": {"subjects": 10, "size": [16, 16, 16], "lesions": True}},
        "source": ["t1"],
        "target": ["flair"],
        "split": {"by": "fractions", "train": 0.3, "validation": 0.1, "test": 0.6},
        "preprocess": {"intensity": {"t1": {"name": "percentile"}, "flair": {"name": "percentile"}}},
        "patch": {"size": [8, 8, 8]},
        "generator": SMALL,
        "discriminator": None,
        "losses": {"l1": {}},
        "callbacks": {},
        "metrics": {"psnr": {}},
        "train": {"steps": 2, "batch": 1, "workers": 0, "validate_every": 2, "checkpoint_every": 2},
        "inference": {"window": [16, 16, 16]},
        "faithfulness": {"lesion_cases": 0},
        "downstream": {
            "labels": {"brain": [7, 8], "lesion": [17]},
            "seeds": 2,
            "segmenter": {
                "generator": SMALL,
                "callbacks": {},
                "train": {"steps": 4, "batch": 1, "checkpoint_every": 2},
            },
        },
        **changes,
    }


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> medtrans.RunFolder:
    """A finished run with its assessment, that tests look at and do not change."""
    return medtrans.run(config_of(tmp_path_factory.mktemp("done") / "run"))


@pytest.fixture
def copied(done: medtrans.RunFolder, tmp_path: Path) -> medtrans.RunFolder:
    """A copy of it that a test may change."""
    shutil.copytree(done.path, tmp_path / "copy")
    return medtrans.RunFolder(tmp_path / "copy")


def results_of(folder: medtrans.RunFolder) -> Any:
    return json.loads(folder.downstream.read_text())


# What is left behind


def test_every_arm_has_dice_and_hd95_of_every_label_with_intervals_and_its_ratio(done: medtrans.RunFolder) -> None:
    results = results_of(done)
    assert list(results["arms"]) == ["trtr", "tstr", "trts", "tsrtr"]
    for scores in results["arms"].values():
        assert list(scores) == ["dice_brain", "hd95_brain", "dice_lesion", "hd95_lesion"]
        for one in scores.values():
            assert len(one["by_seed"]) == 2
            assert one["n"] == 3
            assert one["ci95"] is None or one["ci95"][0] <= one["mean"] <= one["ci95"][1]
    assert results["arms"]["trtr"]["hd95_brain"]["ratio"] == 1
    assert results["arms"]["trtr"]["hd95_brain"]["unit"] == "mm"
    with (done.downstream.parent / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len({(row["arm"], row["seed"], row["case"]) for row in rows}) == len(rows) == 4 * 2 * 3
    trtr = [float(row["dice_brain"]) for row in rows if row["arm"] == "trtr" and row["seed"] == "1"]
    assert np.mean(trtr) == pytest.approx(results["arms"]["trtr"]["dice_brain"]["by_seed"][1])


def test_translator_segmenters_and_test_have_subjects_of_their_own(done: medtrans.RunFolder) -> None:
    results = results_of(done)
    train, test = set(results["cases"]["train"]), set(results["cases"]["test"])
    with done.cases.open() as file:
        held_out = {f"case_{int(row['number']):04d}" for row in csv.DictReader(file) if row["split"] == "test"}
    assert len(train) == len(test) == 3
    assert train | test == held_out
    assert results["subjects"]["overlap"] == 0
    assert "Worth to a segmenter" in done.report.read_text()


def test_synthetic_images_are_those_that_the_run_predicts(done: medtrans.RunFolder) -> None:
    predicted = {path.name: path for path in done.predictions.glob("*.nii.gz")}
    synthetic = list((done.downstream.parent / "synthetic").rglob("*.nii.gz"))
    assert {path.name for path in synthetic} == set(predicted)
    for path in synthetic:
        np.testing.assert_array_equal(read(path).data, read(predicted[path.name]).data)
        assert "not for diagnosis" in path.with_name(path.name.replace(".nii.gz", ".json")).read_text()


# Beginning, stopping and going on


def test_what_is_finished_is_kept_and_overwrite_begins_anew_with_other_settings(copied: medtrans.RunFolder) -> None:
    records = sorted(copied.downstream.parent.rglob("scores.json"))
    before = {path: path.stat().st_mtime_ns for path in records}
    results = copied.downstream.read_bytes()
    downstream(copied.path)
    assert {path: path.stat().st_mtime_ns for path in records} == before
    assert copied.downstream.read_bytes() == results
    downstream(
        copied.path, ["downstream.seeds=1", "downstream.arms=[tstr]", "downstream.labels.csf=[6]"], overwrite=True
    )
    assert not {path.stat().st_mtime_ns for path in records if path.exists()} & set(before.values())
    arms = results_of(copied)["arms"]
    assert list(arms) == ["trtr", "tstr"]
    assert [name for name in arms["tstr"] if name.startswith("dice")] == ["dice_brain", "dice_lesion", "dice_csf"]
    with pytest.raises(ConfigError, match="only keys under downstream"):
        downstream(copied.path, ["train.steps=5"])


def test_an_assessment_cut_short_goes_on_from_its_last_checkpoint_to_the_same_results(
    copied: medtrans.RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, fewer = results_of(copied)["arms"], ["downstream.seeds=1", "downstream.arms=[tstr]"]
    shutil.rmtree(copied.downstream.parent)
    step, steps = SegmentationMethod.training_step, []

    def interrupted(self: SegmentationMethod, batch: Any, number: int) -> Any:
        steps.append(number)
        if len(steps) == 4 + 3:  # the third step of the second segmenter
            raise KeyboardInterrupt
        return step(self, batch, number)

    monkeypatch.setattr(SegmentationMethod, "training_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        downstream(copied.path, fewer)
    assert not copied.downstream.exists()
    assert not copied.lock.exists()
    downstream(copied.path, fewer)
    assert steps[7:] == [2, 3]
    for arm, scores in results_of(copied)["arms"].items():
        assert scores["dice_brain"]["by_seed"] == before[arm]["dice_brain"]["by_seed"][:1]


# Who takes part


def test_a_subject_that_the_weights_came_from_is_refused_before_anything_is_written(
    done: medtrans.RunFolder, tmp_path: Path
) -> None:
    config = config_of(tmp_path / "run", seed=1)
    config["train"] |= {"initialise_from": {"run": str(done.path)}}
    with pytest.raises(DataError, match=r'subject "head_\d+" was among those that run'):
        medtrans.run(config)
    assert not (tmp_path / "run").exists()


def test_segmenters_are_tested_on_the_runs_own_test_cases_when_there_are_more(copied: medtrans.RunFolder) -> None:
    """A draw among 14 subjects would test on some that the translator was trained on."""
    config = yaml.safe_load(copied.config.read_text())
    config["dataset"]["options"]["subjects"] = 14
    copied.write_config(yaml.safe_dump(config))
    before = copied.cases.read_bytes(), results_of(copied)["arms"]["trtr"]
    downstream(copied.path, overwrite=True)
    assert (copied.cases.read_bytes(), results_of(copied)["arms"]["trtr"]) == before


def test_the_papers_protocol_names_its_overlap(done: medtrans.RunFolder) -> None:
    experiment = load_config([done.config], ["downstream.protocol=mdaunet"])
    assessment = plan_downstream(experiment, load_cohort(experiment)[0], done.path)
    assert {member.split for member in assessment.roles.train} == {"test"}
    assert {member.split for member in assessment.roles.test} == {"train", "validation"}
    assert len(assessment.roles.overlap) == len(assessment.roles.test) == 4
    assert "4 of the 4 subjects" in assessment.warnings[0]


def test_weights_whose_origin_is_gone_are_warned_of_and_a_config_that_asks_for_nothing_says_how_to(
    done: medtrans.RunFolder, tmp_path: Path
) -> None:
    config = yaml.safe_load(done.config.read_text())
    config["train"]["initialise_from"] = {"run": str(tmp_path / "gone"), "networks": ["generator"]}
    experiment = load_config([config])
    cohort = load_cohort(experiment)[0]
    assert "gone" in plan_downstream(experiment, cohort, done.path).warnings[0]
    with pytest.raises(ConfigError, match=r"downstream\.labels\.lesion="):
        plan_downstream(load_config([config | {"downstream": None}]), cohort, done.path)


def test_cases_without_labels_and_too_few_subjects_are_refused(done: medtrans.RunFolder) -> None:
    experiment = load_config([done.config])
    settings = experiment.config.downstream
    assert settings is not None
    cohort, _ = load_cohort(experiment)
    with pytest.raises(DataError, match="no sdf; the dataset gives"):
        assign_roles(cohort, settings, {}, image="sdf", seed=0)
    lone = type(cohort)(tuple(member for member in cohort.members if member.split != "test") + cohort.of("test")[:1])
    with pytest.raises(DataError, match=r"at least 2 subjects .* found 1"):
        assign_roles(lone, settings, {}, image="flair", seed=0)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("downstream.segmenter.seed=3", r"downstream\.segmenter\.seed: is set by the assessment"),
        ("downstream.segmenter.train.stepz=3", r"downstream\.segmenter: .*train\.stepz: unknown key"),
        ("downstream.image=ct", "the run translates to flair, found 'ct'"),
        ("downstream.labels={}", r"downstream\.labels"),
        ("downstream.labels={a: [1], b: [1]}", "1 stands in two classes"),
    ],
)
def test_settings_that_cannot_be_are_refused_before_training(tmp_path: Path, override: str, message: str) -> None:
    config = config_of(tmp_path / "run")
    if "labels" in override:
        config["downstream"].pop("labels")
    with pytest.raises(ConfigError, match=message):
        medtrans.run(config, [override])
    assert not (tmp_path / "run").exists()


# The numbers


def scores(values: list[float]) -> list[CaseScores]:
    return [CaseScores(f"case_{n:04d}", f"c{n}", f"s{n}", {"dice": value}, "") for n, value in enumerate(values)]


def test_an_arm_is_described_over_cases_after_averaging_over_seeds() -> None:
    real = [scores([0.8, 0.6, 0.6, 0.4]), scores([0.6, 0.6, 0.6, 0.6])]
    synthetic = [scores([0.4, 0.3, 0.3, 0.2]), scores([0.3, 0.3, 0.3, 0.3])]
    found = arm_summary({"trtr": real, "tstr": synthetic}, {"dice": Column("", True, "")})
    assert found["trtr"]["dice"]["mean"] == pytest.approx(0.6)
    assert found["trtr"]["dice"]["sd"] == pytest.approx(np.std([0.7, 0.6, 0.6, 0.5], ddof=1))
    assert found["tstr"]["dice"]["by_seed"] == pytest.approx([0.3, 0.3])
    assert found["tstr"]["dice"]["ratio"] == pytest.approx(0.5)
    assert found["tstr"]["dice"]["ratio_ci95"] == pytest.approx([0.5, 0.5])


def test_the_interval_of_a_ratio_draws_subjects_of_both_alike() -> None:
    rng = np.random.default_rng(0)
    bound = rng.uniform(0.4, 0.9, 40)
    ratio, interval = ratio_of_means(0.7 * bound + rng.normal(0, 0.02, 40), bound, [f"s{n}" for n in range(40)])
    assert interval is not None
    assert interval[0] < 0.7 < interval[1] < interval[0] + 0.03
    assert ratio == pytest.approx(0.7, abs=0.01)
    assert ratio_of_means([1.0, 2.0], [0.0, 0.0], ["a", "b"]) == (None, None)
    assert ratio_of_means([1.0, 2.0], [1.0, 1.0], ["a", "b"]) == (1.5, None)


# Label maps that somebody else made


@pytest.fixture
def label_folders(tmp_path: Path) -> tuple[Path, Path]:
    predictions, targets = tmp_path / "predictions", tmp_path / "targets"
    predictions.mkdir()
    targets.mkdir()
    true = np.zeros((8, 8, 8), dtype=np.uint8)
    true[2:6, 2:6, 2:6] = 1
    true[6:, 6:, 6:] = 4
    for number in range(3):
        write(Volume(true, np.eye(4)), targets / f"case{number}.nii.gz")
        write(Volume(np.roll(true, number, axis=0), np.eye(4)), predictions / f"case{number}.nii.gz")
    return predictions, targets


def test_label_maps_are_scored_by_label_or_by_classes_of_labels(label_folders: tuple[Path, Path]) -> None:
    summary, rows = score_label_maps(*label_folders)
    assert list(summary) == ["dice_1", "hd95_1", "dice_4", "hd95_4"]
    assert [row.values["dice_1"] for row in rows] == pytest.approx([1, 0.75, 0.5])
    assert [row.values["hd95_1"] for row in rows] == pytest.approx([0, 1, 2])
    together, _ = score_label_maps(*label_folders, labels={"all": (1, 4)})
    assert list(together) == ["dice_all", "hd95_all"]


def test_a_prediction_on_another_grid_is_brought_onto_the_targets(label_folders: tuple[Path, Path]) -> None:
    true = read(label_folders[1] / "case0.nii.gz")
    mirrored = np.diag([-1.0, 1, 1, 1])
    mirrored[0, 3] = 7
    write(Volume(true.data[::-1].copy(), true.affine @ mirrored), label_folders[0] / "case0.nii.gz")
    _, rows = score_label_maps(*label_folders)
    assert rows[0].values["dice_1"] == 1


def test_label_maps_without_a_partner_or_without_labels_are_refused(label_folders: tuple[Path, Path]) -> None:
    predictions, targets = label_folders
    (predictions / "case1.nii.gz").rename(predictions / "other.nii.gz")
    with pytest.raises(DataError) as error:
        score_label_maps(predictions, targets)
    assert all(name in str(error.value) for name in ("other", "case1"))
    (predictions / "other.nii.gz").rename(predictions / "case1.nii.gz")
    write(Volume(np.random.default_rng(0).random((8, 8, 8)), np.eye(4)), predictions / "case2.nii.gz")
    with pytest.raises(DataError, match="no label map"):
        score_label_maps(predictions, targets)
    with pytest.raises(ConfigError, match=r"nothing: there is no such folder"):
        score_label_maps(predictions, targets / "nothing")


def test_the_papers_segmenter_on_brats_is_the_same_whatever_window_and_blending_the_translator_needs(
    tmp_path: Path,
) -> None:
    def segmenter(*overrides: str) -> Any:
        experiment = load_config(["brats_t2_flair_downstream"], overrides)
        settings = experiment.config.downstream
        assert settings is not None
        assert (settings.protocol, settings.labels) == ("mdaunet", {"whole_tumour": (1, 2, 4)})
        return segmenter_experiment(experiment, settings, seed=0, folder=tmp_path, plugins=()).config

    config = segmenter()
    assert (config.source, config.target) == (("flair",), ("labels",))
    assert config.patch.size == (224, 224, 144)
    assert config.train.batch * config.train.accumulate == 8
    assert list(config.losses) == ["soft_dice"]
    assert segmenter("inference.blend=constant", "inference.window=[96,96,96]") == config
