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
from medtrans.config import load_config
from medtrans.downstream import planned
from medtrans.downstream_roles import assign_roles
from medtrans.errors import ConfigError, DataError
from medtrans.label_scores import score_label_maps
from medtrans.pipeline import downstream
from medtrans.segmenter_config import segmenter_experiment
from medtrans.statistics import CaseScores, Column
from medtrans.study import gather_cohort
from medtrans.utility import arm_summary, ratio_of_means
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


def results_of(folder: medtrans.RunFolder) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(folder.downstream.read_text())
    return found


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


def test_translator_segmenters_and_test_have_subjects_of_their_own(done: medtrans.RunFolder) -> None:
    results = results_of(done)
    train, test = set(results["cases"]["train"]), set(results["cases"]["test"])
    with done.cases.open() as file:
        rows = list(csv.DictReader(file))
    held_out = {f"case_{int(row['number']):04d}" for row in rows if row["split"] == "test"}
    assert len(train) == len(test) == 3
    assert train | test == held_out
    assert not train & test
    assert results["subjects"]["overlap"] == 0


def test_the_table_has_a_row_for_each_arm_seed_and_case(done: medtrans.RunFolder) -> None:
    with (done.downstream.parent / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4 * 2 * 3
    assert len({(row["arm"], row["seed"], row["case"]) for row in rows}) == len(rows)
    trtr = [float(row["dice_brain"]) for row in rows if row["arm"] == "trtr" and row["seed"] == "1"]
    assert np.mean(trtr) == pytest.approx(results_of(done)["arms"]["trtr"]["dice_brain"]["by_seed"][1])


def test_synthetic_images_are_those_that_the_run_predicts(done: medtrans.RunFolder) -> None:
    predicted = {path.name: path for path in done.predictions.glob("*.nii.gz")}
    synthetic = list((done.downstream.parent / "synthetic").rglob("*.nii.gz"))
    assert {path.name for path in synthetic} == set(predicted)
    for path in synthetic:
        np.testing.assert_array_equal(read(path).data, read(predicted[path.name]).data)
        assert "not for diagnosis" in path.with_name(path.name.replace(".nii.gz", ".json")).read_text()


def test_the_report_shows_it_without_names(done: medtrans.RunFolder) -> None:
    page = done.report.read_text()
    assert "Worth to a segmenter" in page
    assert "trained on synthetic images with real labels" in page
    assert "head_00" not in page


# Beginning, stopping and going on


def test_what_is_finished_is_kept_and_overwrite_begins_anew(copied: medtrans.RunFolder) -> None:
    records = sorted(copied.downstream.parent.rglob("scores.json"))
    before = {path: path.stat().st_mtime_ns for path in records}
    results = copied.downstream.read_bytes()
    downstream(copied.path)
    assert {path: path.stat().st_mtime_ns for path in records} == before
    assert copied.downstream.read_bytes() == results
    downstream(copied.path, overwrite=True)
    assert all(path.stat().st_mtime_ns != before[path] for path in records)
    assert copied.downstream.read_bytes() == results


def test_an_assessment_cut_short_goes_on_from_its_last_checkpoint_to_the_same_results(
    copied: medtrans.RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = copied.downstream.read_bytes()
    shutil.rmtree(copied.downstream.parent)
    step, steps = SegmentationMethod.training_step, []

    def interrupted(self: SegmentationMethod, batch: Any, number: int) -> Any:
        steps.append(number)
        if len(steps) == 4 + 3:  # the third step of the second segmenter
            raise KeyboardInterrupt
        return step(self, batch, number)

    monkeypatch.setattr(SegmentationMethod, "training_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        downstream(copied.path)
    assert not copied.downstream.exists()
    assert not copied.lock.exists()
    steps[:] = range(100)
    downstream(copied.path)
    assert steps[100:106] == [2, 3, 0, 1, 2, 3]
    assert copied.downstream.read_bytes() == results


def test_other_settings_can_be_tried_on_a_trained_run(copied: medtrans.RunFolder) -> None:
    downstream(copied.path, ["downstream.seeds=1", "downstream.arms=[tstr]", "downstream.labels.csf=[6]"])
    results = results_of(copied)
    assert list(results["arms"]) == ["trtr", "tstr"]
    assert [name for name in results["arms"]["tstr"] if name.startswith("dice")] == [
        "dice_brain",
        "dice_lesion",
        "dice_csf",
    ]
    with pytest.raises(ConfigError, match="only keys under downstream"):
        downstream(copied.path, ["train.steps=5"])


# Who takes part


def test_a_subject_that_the_weights_came_from_is_refused_before_anything_is_written(
    done: medtrans.RunFolder, tmp_path: Path
) -> None:
    config = config_of(tmp_path / "run", seed=1)
    config["train"] |= {"initialise_from": {"run": str(done.path)}}
    with pytest.raises(DataError, match=r'subject "head_\d+" was among those that run, which this run\'s weights come'):
        medtrans.run(config)
    assert not (tmp_path / "run").exists()


def test_a_subject_that_the_run_was_trained_on_is_refused_when_the_data_have_changed(
    copied: medtrans.RunFolder,
) -> None:
    copied.cases.chmod(0o600)
    text = copied.cases.read_text()
    first = next(line for line in text.splitlines() if line.endswith(",test"))
    copied.cases.write_text(text.replace(first, first.removesuffix("test") + "train"))
    with pytest.raises(DataError, match=f'subject "{first.split(",")[2]}" was among those that this run trained'):
        downstream(copied.path)
    assert not copied.lock.exists()


def test_the_papers_protocol_names_its_overlap(done: medtrans.RunFolder, tmp_path: Path) -> None:
    experiment = load_config([done.config], ["downstream.protocol=mdaunet"])
    cohort, _ = gather_cohort(experiment)
    assessment = planned(experiment, cohort, done.path)
    assert {member.split for member in assessment.roles.train} == {"test"}
    assert {member.split for member in assessment.roles.test} == {"train", "validation"}
    assert len(assessment.roles.overlap) == len(assessment.roles.test) == 4
    assert (
        "4 of the 4 subjects segmenters are tested on are subjects the translator was trained" in assessment.warnings[0]
    )


def test_weights_whose_origin_is_gone_are_warned_of(done: medtrans.RunFolder, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(done.path, copy)
    config = yaml.safe_load(done.config.read_text())
    config["train"]["initialise_from"] = {"run": str(tmp_path / "gone"), "networks": ["generator"]}
    experiment = load_config([config])
    cohort, _ = gather_cohort(experiment)
    assert "cannot be read any more" in planned(experiment, cohort, copy).warnings[0]


def test_cases_without_labels_and_too_few_subjects_are_refused(done: medtrans.RunFolder) -> None:
    experiment = load_config([done.config])
    settings = experiment.config.downstream
    assert settings is not None
    cohort, _ = gather_cohort(experiment)
    options: dict[str, Any] = {"image": "flair", "seed": 0}
    with pytest.raises(DataError, match="no sdf; the dataset gives"):
        assign_roles(cohort, settings, {}, image="sdf", seed=0)
    lone = type(cohort)(tuple(member for member in cohort.members if member.split != "test") + cohort.of("test")[:1])
    with pytest.raises(DataError, match="at least 2 subjects that the translator has not seen, found 1"):
        assign_roles(lone, settings, {}, **options)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["downstream.segmenter.seed=3"], r"downstream\.segmenter\.seed: is set by the assessment"),
        (["downstream.segmenter.train.stepz=3"], r"downstream\.segmenter: .*train\.stepz: unknown key"),
        (["downstream.image=ct"], "the run translates to flair, found 'ct'"),
        (["downstream.labels={}"], r"downstream\.labels"),
        (["downstream.labels={a: [1], b: [1]}"], "1 stands in two classes"),
    ],
)
def test_settings_that_cannot_be_are_refused_before_training(
    tmp_path: Path, overrides: list[str], message: str
) -> None:
    config = config_of(tmp_path / "run")
    if "labels" in overrides[0]:
        config["downstream"].pop("labels")
    with pytest.raises(ConfigError, match=message):
        medtrans.run(config, overrides)
    assert not (tmp_path / "run").exists()


def test_a_run_whose_config_asks_for_nothing_says_how_to(copied: medtrans.RunFolder) -> None:
    config = yaml.safe_load(copied.config.read_text()) | {"downstream": None}
    copied.config.write_text(yaml.safe_dump(config))
    with pytest.raises(ConfigError, match=r"downstream\.labels\.lesion="):
        downstream(copied.path)


# The numbers


def scores(values: list[float]) -> list[CaseScores]:
    return [CaseScores(f"case_{n:04d}", f"c{n}", f"s{n}", {"dice": value}, "") for n, value in enumerate(values)]


def test_an_arm_is_described_over_cases_after_averaging_over_seeds() -> None:
    columns = {"dice": Column("", True, "")}
    found = arm_summary(
        {
            "trtr": [scores([0.8, 0.6, 0.4]), scores([0.6, 0.6, 0.6])],
            "tstr": [scores([0.4, 0.3, 0.2]), scores([0.3, 0.3, 0.3])],
        },
        columns,
    )
    assert found["trtr"]["dice"]["mean"] == pytest.approx(0.6)
    assert found["trtr"]["dice"]["sd"] == pytest.approx(0.1)
    assert found["tstr"]["dice"]["by_seed"] == pytest.approx([0.3, 0.3])
    assert found["tstr"]["dice"]["ratio"] == pytest.approx(0.5)
    assert found["tstr"]["dice"]["ratio_ci95"] == pytest.approx([0.5, 0.5])


def test_the_interval_of_a_ratio_draws_subjects_of_both_alike() -> None:
    rng = np.random.default_rng(0)
    bound = rng.uniform(0.4, 0.9, 40)
    ratio, interval = ratio_of_means(0.7 * bound + rng.normal(0, 0.02, 40), bound, [f"s{n}" for n in range(40)])
    assert interval is not None
    assert interval[0] < 0.7 < interval[1]
    assert interval[1] - interval[0] < 0.03
    assert ratio == pytest.approx(0.7, abs=0.01)


def test_a_ratio_that_does_not_exist_is_none() -> None:
    assert ratio_of_means([1.0, 2.0], [0.0, 0.0], ["a", "b"]) == (None, None)
    assert ratio_of_means([1.0, 2.0], [1.0, 1.0], ["a", "b"]) == (1.5, None)


# Label maps that somebody else made


def label_folders(root: Path) -> tuple[Path, Path]:
    predictions, targets = root / "predictions", root / "targets"
    for folder in (predictions, targets):
        folder.mkdir()
    for number in range(3):
        true = np.zeros((8, 8, 8), dtype=np.uint8)
        true[2:6, 2:6, 2:6] = 1
        true[6:, 6:, 6:] = 4
        guess = np.roll(true, number, axis=0)
        write(Volume(true, np.eye(4)), targets / f"case{number}.nii.gz")
        write(Volume(guess, np.eye(4)), predictions / f"case{number}.nii.gz")
    return predictions, targets


def test_label_maps_are_scored_by_label_or_by_classes_of_labels(tmp_path: Path) -> None:
    predictions, targets = label_folders(tmp_path)
    summary, rows = score_label_maps(predictions, targets)
    assert list(summary) == ["dice_1", "hd95_1", "dice_4", "hd95_4"]
    assert [row.values["dice_1"] for row in rows] == pytest.approx([1, 0.75, 0.5])
    assert [row.values["hd95_1"] for row in rows] == pytest.approx([0, 1, 2])
    together, _ = score_label_maps(predictions, targets, labels={"all": (1, 4)})
    assert list(together) == ["dice_all", "hd95_all"]
    assert "labels 1, 4" in together["dice_all"]["definition"]


def test_a_prediction_on_another_grid_is_brought_onto_the_targets(tmp_path: Path) -> None:
    predictions, targets = label_folders(tmp_path)
    true = read(targets / "case0.nii.gz")
    turned = Volume(
        true.data[::-1].copy(), true.affine @ np.array([[-1, 0, 0, 7], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    )
    write(turned, predictions / "case0.nii.gz")
    _, rows = score_label_maps(predictions, targets)
    assert rows[0].values["dice_1"] == 1


def test_label_maps_without_a_partner_or_without_labels_are_refused(tmp_path: Path) -> None:
    predictions, targets = label_folders(tmp_path)
    (predictions / "case1.nii.gz").rename(predictions / "other.nii.gz")
    with pytest.raises(DataError) as error:
        score_label_maps(predictions, targets)
    assert list(error.value.faults) == [
        f"{predictions}: 1 of 4 images are missing (prediction): case1",
        f"{targets}: 1 of 4 images are missing (target): other",
    ]
    (predictions / "other.nii.gz").rename(predictions / "case1.nii.gz")
    grey = Volume(np.random.default_rng(0).random((8, 8, 8)).astype(np.float32), np.eye(4))
    write(grey, predictions / "case2.nii.gz")
    with pytest.raises(DataError, match="no label map"):
        score_label_maps(predictions, targets)
    with pytest.raises(ConfigError, match=r"--target .* no such folder"):
        score_label_maps(predictions, tmp_path / "nothing")


def test_the_papers_assessment_on_brats_is_a_config_whose_segmenter_is_known_to_be_right(tmp_path: Path) -> None:
    experiment = load_config(["brats_t2_flair_downstream"])
    settings = experiment.config.downstream
    assert settings is not None
    segmenter = segmenter_experiment(experiment, settings, seed=0, folder=tmp_path, plugins=()).config
    assert settings.protocol == "mdaunet"
    assert settings.labels == {"whole_tumour": (1, 2, 4)}
    assert (segmenter.source, segmenter.target) == (("flair",), ("labels",))
    assert segmenter.patch.size == (224, 224, 144)
    assert segmenter.train.batch * segmenter.train.accumulate == 8
    assert list(segmenter.losses) == ["soft_dice"]


def test_the_segmenter_is_the_same_whatever_window_and_blending_the_translator_needs(tmp_path: Path) -> None:
    def segmenter(*overrides: str) -> Any:
        experiment = load_config(["brats_t2_flair_downstream"], overrides)
        settings = experiment.config.downstream
        assert settings is not None
        return segmenter_experiment(experiment, settings, seed=0, folder=tmp_path, plugins=()).config

    assert segmenter("inference.blend=constant", "inference.window=[96,96,96]") == segmenter()
