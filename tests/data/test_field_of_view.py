"""Where an image of a case has no data, and beyond a volume's border: told, and counted nowhere."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import medtrans
from medtrans import Case, DataError
from medtrans.builtin.losses.voxel import L1
from medtrans.builtin.methods.base import settled
from medtrans.builtin.metrics.voxelwise import MAE
from medtrans.builtin.transforms import Percentile, Window, ZScore
from medtrans.data.cache import Cache
from medtrans.data.cohort import Member
from medtrans.data.patches import training_loader
from medtrans.data.preprocessing import Prepared, Preprocessing
from medtrans.evaluation.baselines import fit_baselines
from medtrans.evaluation.scorer import Scorer
from medtrans.plugins.interfaces import WeightedLoss
from medtrans.types import Batch, LossInputs, pyramid
from medtrans.volume import Grid, Volume, read, write
from medtrans.volume.resampling import covered
from tests.builtin.test_paired import method, parts
from tests.helpers.pairs import config_of, contrasts, write_pairs

SIDE = 20


def part(image: Volume, kept: slice) -> Volume:
    """The image as a scanner gives it whose field of view is `kept` along the last axis."""
    affine = image.affine.copy()
    affine[:3, 3] += affine[:3, 2] * kept.start
    return Volume(np.ascontiguousarray(image.data[..., kept]), affine)


def preprocessing(crop: str = "none", scaling: Callable[[], medtrans.Preprocess] = Percentile) -> Preprocessing:
    return Preprocessing(["t1"], ["t2"], {"t1": scaling(), "t2": scaling()}, crop=crop)


def halved(crop: str = "none") -> tuple[dict[str, Volume], Prepared]:
    images = contrasts(1, SIDE)
    images["t2"] = part(images["t2"], slice(0, 12))
    return images, preprocessing(crop).prepare(images)


@dataclass(frozen=True)
class Made:
    image: Volume

    def __call__(self) -> Volume:
        return self.image


def member(images: dict[str, Volume], number: int = 1, split: str = "train") -> Member:
    return Member(number, Case(f"c{number}", f"s{number}", {name: Made(one) for name, one in images.items()}), split)


@pytest.mark.parametrize("shift", [0.0, 0.4, 3.0, 2.3])
@pytest.mark.parametrize("turned", [False, True])
def test_where_an_image_reaches_is_where_its_voxels_do(shift: float, turned: bool) -> None:
    grid = Grid((8, 9, 10), np.eye(4))
    affine = np.diag((2.0, 1.0, 1.0, 1.0))
    affine[0, 3] = shift
    if turned:
        affine[:3, :3] = [[0, 1, 0], [1, 0, 0], [0, 0, 1]] @ affine[:3, :3]
    other = Grid((6, 9, 8), affine)
    at = np.linalg.solve(affine, np.concatenate([np.indices(grid.shape).reshape(3, -1), np.ones((1, 720))]))[:3]
    inside = ((at > -0.502) & (at < np.array(other.shape)[:, None] - 0.498)).all(axis=0).reshape(grid.shape)
    found = covered([grid, other], grid)
    assert found is not None
    np.testing.assert_array_equal(found, inside)
    assert covered([grid], grid) is None


def test_a_target_that_ends_early_is_counted_and_its_filling_is_not_fitted_to() -> None:
    images, prepared = halved()
    assert prepared.uncovered == {"t2": pytest.approx(8 / SIDE)}
    valid = prepared.valid
    assert valid is not None
    assert valid[..., :12].all()
    assert not valid[..., 12:].any()
    alone = Percentile().fit(images["t2"].data, None)
    assert prepared.numbers["t2"] == pytest.approx(alone)
    assert prepared.clipped["t2"] <= 0.011
    whole = preprocessing().prepare(contrasts(1, SIDE))
    assert (whole.uncovered, whole.valid) == ({}, None)


def test_a_second_source_that_ends_early_is_counted_too() -> None:
    images = contrasts(1, SIDE)
    images["flair"] = part(images["t1"], slice(4, SIDE))
    two = Preprocessing(["t1", "flair"], ["t2"], dict.fromkeys(("t1", "flair", "t2"), Percentile()), crop="none")
    assert two.prepare(images).uncovered == {"flair": pytest.approx(4 / SIDE)}


def test_a_case_without_data_in_its_mask_is_refused() -> None:
    images = contrasts(1, SIDE)
    mask = np.zeros((SIDE,) * 3, np.uint8)
    mask[..., 15:] = 1
    images |= {"t2": part(images["t2"], slice(0, 12)), "mask": Volume(mask, images["t1"].affine)}
    with pytest.raises(DataError, match="t2: no data"):
        preprocessing().prepare(images)


@pytest.mark.parametrize("pairing", ["paired", "unpaired"])
def test_patches_say_where_they_have_no_data_and_go_on_with_background(tmp_path: Path, pairing: str) -> None:
    """A patch of 24 voxels around volumes of 20, of which the targets end after 12."""
    cases = []
    for number in (1, 2):
        images = contrasts(number, SIDE)
        cases.append(member({**images, "t2": part(images["t2"], slice(0, 12))}, number))
    cache = Cache(tmp_path, preprocessing(scaling=partial(ZScore, clip_sd=12.0)), {})
    settings = {"patch_size": (24, 20, 21), "per_volume": 1, "foreground": 0.0, "seed": 0, "batch": 2, "steps": 1}
    (batch,) = training_loader(cache, cases, pairing=pairing, **settings)
    valid = batch.valid if pairing == "paired" else batch.target_valid
    assert valid is not None
    assert batch.valid is not None
    expected = torch.zeros(2, 1, 24, 20, 21)
    expected[:, :, 2:22, :, 1:13] = 1  # of the one voxel that is missing along k, the odd one stands in front
    torch.testing.assert_close(valid, expected)
    if pairing == "paired":
        for patch in batch.source:
            inside = patch[:, 2:22, :, 1:21]
            assert float(inside.min()) > 0  # zscore has no background at 0
            assert (patch[:, :2] == inside.min()).all()
    moved = batch.chunks(2)[1].to("cpu")
    torch.testing.assert_close(moved.valid, batch.valid[1:])


def test_a_patch_that_has_data_everywhere_has_no_map(tmp_path: Path) -> None:
    cache = Cache(tmp_path, preprocessing(), {})
    settings = {"patch_size": (8, 8, 8), "per_volume": 1, "foreground": 0.0, "seed": 0, "batch": 1, "steps": 4}
    for batch in training_loader(cache, [member(contrasts(1, SIDE))], **settings):
        assert (batch.valid, batch.target_valid) == (None, None)


class Unaware(nn.Module):
    """A loss by somebody who has never heard of masks."""

    def forward(self, inputs: LossInputs) -> Tensor:
        return (inputs.prediction[0] - inputs.target[0]).abs().pow(1.5).sum()


@pytest.mark.parametrize("loss", ["l1", "unaware"])
def test_nothing_is_learnt_where_there_are_no_data(loss: str) -> None:
    draw = torch.Generator().manual_seed(0)
    source = torch.rand((2, 1, 8, 8, 8), generator=draw)
    valid = torch.ones_like(source)
    valid[..., 5:] = 0

    def weights(filling: float) -> list[Tensor]:
        chosen = L1(2) if loss == "l1" else Unaware()
        made = method(parts({loss: WeightedLoss(chosen, 1.0)}, discriminator=False))
        target = torch.where(valid > 0, 1 - source, torch.full_like(source, filling))
        made.training_step(Batch(source, target, None, (0, 1), valid=valid), 0)
        return [one.detach().clone() for one in made.generator.bare.parameters()]

    for one, other in zip(weights(0.0), weights(1.0), strict=True):
        assert torch.equal(one, other)


def test_every_level_of_a_prediction_is_the_target_where_there_are_no_data() -> None:
    target, valid = torch.rand(1, 1, 8, 8, 8), torch.ones(1, 1, 8, 8, 8)
    valid[..., 4:] = 0
    made = tuple(torch.full_like(level, 9.0) for level in pyramid(target, 2))
    for level, true, inside in zip(settled(made, target, valid), pyramid(target, 2), pyramid(valid, 2), strict=True):
        assert torch.equal(level == 9, inside > 0)
        assert torch.equal(level[inside == 0], true[inside == 0])
    assert settled(made, target, None) is made


class Everywhere(MAE):
    """A metric that looks at no mask."""

    def __call__(
        self, prediction: np.ndarray, target: np.ndarray, mask: np.ndarray | None, spacing_mm: object
    ) -> float:
        return float(np.abs(prediction - target).max())


@pytest.mark.parametrize("crop", ["none", "foreground"])
def test_nothing_is_scored_where_there_are_no_data(crop: str) -> None:
    images, prepared = halved(crop)
    steps = preprocessing(crop)
    scorer = Scorer(steps, {"t2": {"mae": MAE(), "worst": Everywhere()}}, ["t2"])
    case = member(images, split="test")
    reference = scorer.reference(case, prepared)
    assert prepared.target is not None
    assert prepared.valid is not None
    wrong = np.where(prepared.valid, prepared.target, 1.0)
    assert scorer.scores(wrong, prepared, reference, case).values == pytest.approx({"mae": 0, "worst": 0}, abs=0.02)


def test_the_baselines_learn_only_from_what_is_there() -> None:
    _, prepared = halved()
    assert prepared.target is not None
    assert prepared.valid is not None
    other = Prepared(**{**vars(prepared), "target": np.where(prepared.valid, prepared.target, 0.9).astype(np.float32)})
    for one, two in zip(fit_baselines([prepared]).values(), fit_baselines([other]).values(), strict=True):
        found, expected = one.predict(prepared), two.predict(prepared)
        np.testing.assert_array_equal(found[:, prepared.valid], expected[:, prepared.valid])


@pytest.mark.parametrize("scaling", [ZScore(), Percentile(), Window(range=(-2000.0, 3000.0), unit="")])
def test_a_perfect_prediction_is_scored_as_such_outside_the_box_too(scaling: medtrans.Preprocess) -> None:
    steps = Preprocessing(["t1"], ["t2"], {"t1": Percentile(), "t2": scaling}, crop="foreground")
    images = {
        name: Volume(np.pad(one.data, 6, mode="edge").astype(np.float32), one.affine)
        for name, one in contrasts(1, SIDE).items()
    }
    prepared = steps.prepare(images)
    assert prepared.grid.shape != prepared.native.shape
    assert prepared.target is not None
    case = member(images, split="test")
    scorer = Scorer(steps, {"t2": {"mae": MAE()}}, ["t2"])
    found = scorer.scores(prepared.target, prepared, scorer.reference(case, prepared), case).values["mae"]
    width = 1.0 if scaling.fitted else 5000.0
    assert found / width < 0.02


def test_check_and_run_tell_how_much_is_missing(tmp_path: Path) -> None:
    root = write_pairs(tmp_path / "data")
    for number in (1, 5):
        path = root / f"s{number:02d}" / "t2.nii.gz"
        write(part(read(path), slice(0, 14)), path)
    config = config_of(root, tmp_path / "run") | {"faithfulness": {"lesion_cases": 0}}
    report = medtrans.check(config)
    assert report.ready
    assert {case.case: dict(case.uncovered) for case in report.cases if case.uncovered}.keys() == {"s01", "s05"}
    assert all("t2 ends early" in case.state for case in report.cases if case.uncovered)
    folder = medtrans.run(config)
    summary = json.loads(folder.summary.read_text())
    assert summary["uncovered"].keys() == {"case_0001", "case_0005"}
    assert sum("field of view ends early" in warning for warning in summary["warnings"]) == 2


@pytest.mark.parametrize("copied", [os.symlink, os.link, shutil.copy])
def test_a_case_whose_source_is_its_target_is_refused_by_name(
    tmp_path: Path, copied: Callable[[Path, Path], object]
) -> None:
    root = write_pairs(tmp_path / "data")
    (root / "s03" / "t2.nii.gz").unlink()
    copied(root / "s03" / "t1.nii.gz", root / "s03" / "t2.nii.gz")
    config = config_of(root, tmp_path / "run")
    assert sum('"s03": t1 and t2 are one image' in fault for fault in medtrans.check(config).faults) == 1
    with pytest.raises(DataError, match='"s03": t1 and t2 are one image'):
        medtrans.run(config)


def test_two_sources_that_are_one_image_are_warned_of(tmp_path: Path) -> None:
    root = write_pairs(tmp_path / "data")
    for folder in root.iterdir():
        shutil.copy(folder / "t1.nii.gz", folder / "flair.nii.gz")
    config = config_of(root, tmp_path / "run") | {"source": ["t1", "flair"]}
    config["dataset"]["options"]["images"]["flair"] = "{subject}/flair.nii.gz"
    config["preprocess"]["intensity"]["flair"] = {"name": "percentile"}
    report = medtrans.check(config)
    assert report.ready
    assert sum("t1 and flair are one image in 6 cases" in warning for warning in report.warnings) == 1


def test_a_prediction_is_written_with_background_outside_the_box(tmp_path: Path) -> None:
    root = write_pairs(tmp_path / "data")
    for path in root.rglob("*.nii.gz"):
        image = read(path)
        write(Volume(np.pad(image.data, 5, mode="edge"), image.affine), path)
    config = config_of(root, tmp_path / "run") | {"faithfulness": {"lesion_cases": 0}}
    config["preprocess"]["intensity"]["t2"] = {"name": "zscore", "options": {"clip_sd": 12.0}}
    translator = medtrans.load(medtrans.run(config).path)
    written = translator.translate(root / "s01" / "t1.nii.gz")
    assert isinstance(written, Volume)
    darkest = float(translator.intensities("t2", np.zeros((1, 1, 1), np.float32)).item())
    assert darkest < -200  # mean - 12 SD
    assert abs(float(written.data[0, 0, 0])) < 60
