"""The phantom: heads and pelves drawn from a seed, in registered modalities."""

from __future__ import annotations

import multiprocessing
from functools import cache
from typing import Any, Literal

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt, gaussian_filter, minimum_filter

from medtrans.builtin.datasets.phantom import Phantom
from medtrans.builtin.datasets.phantom.tissues import PROPERTIES, Tissue
from medtrans.volume import Volume

MR = ("t1", "t2", "pd", "flair", "t1ce")
ALL = {*MR, "ct", "cbct", "labels", "mask"}
ANATOMIES: tuple[Literal["head", "pelvis"], ...] = ("head", "pelvis")
EVERYWHERE = {
    Tissue.AIR, Tissue.SKIN, Tissue.FAT, Tissue.MUSCLE, Tissue.BONE, Tissue.MARROW, Tissue.CSF, Tissue.BLOOD,
    Tissue.GAS, Tissue.GLAND,
}  # fmt: skip
OWN = {
    "head": {Tissue.GREY, Tissue.WHITE, Tissue.MUCOSA, Tissue.EYE},
    "pelvis": {Tissue.URINE, Tissue.BOWEL, Tissue.CONTENT},
}


@cache
def image(modality: str, *, index: int = 0, side: int = 48, **options: Any) -> Volume:
    case = Phantom(subjects=index + 1, size=(side, side, side), **options).cases()[index]
    return case.images[modality]()


def mean(modality: str, tissue: Tissue, **options: Any) -> float:
    """Over the voxels whose neighbours all have this label: no partial volume."""
    labels = image("labels", **options).data == tissue
    core = labels.copy()
    for axis in range(3):
        core &= np.roll(labels, 1, axis) & np.roll(labels, -1, axis)
    assert core.sum() >= 3, f"{tissue.name}: too few inner voxels to measure"
    return float(image(modality, **options).data[core].mean())


# One seed, one phantom


@pytest.mark.parametrize("anatomy", ANATOMIES)
def test_the_same_seed_gives_the_same_bytes_in_another_process(anatomy) -> None:
    case = Phantom(anatomy=anatomy, size=(16, 16, 16), lesions=True, seed=5).cases()[1]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        elsewhere = pool.map(_bytes, [case.images[modality] for modality in sorted(ALL)])
    case.images["labels"]().data[:] = 0  # a drawn volume is the caller's own
    case = Phantom(anatomy=anatomy, subjects=7, size=(16, 16, 16), lesions=True, seed=5).cases()[1]
    backwards = [_bytes(case.images[modality]) for modality in sorted(ALL, reverse=True)]
    assert elsewhere == backwards[::-1]


def _bytes(draw: Any) -> tuple[bytes, bytes]:
    volume = draw()
    return volume.data.tobytes(), volume.affine.tobytes()


@pytest.mark.parametrize("anatomy", ANATOMIES)
def test_subjects_and_seeds_differ(anatomy) -> None:
    base = image("labels", anatomy=anatomy, side=24)
    for other in (
        image("labels", anatomy=anatomy, side=24, index=1),
        image("labels", anatomy=anatomy, side=24, seed=1),
    ):
        assert (base.data != other.data).mean() > 0.05
        assert not np.allclose(base.affine, other.affine)


# The grid


@pytest.mark.parametrize("anatomy", ANATOMIES)
def test_all_images_of_a_subject_share_an_oblique_grid(anatomy) -> None:
    case = Phantom(anatomy=anatomy, size=(16, 20, 24)).cases()[0]
    volumes = [draw() for draw in case.images.values()]
    affine = volumes[0].affine
    assert all(volume.data.shape == (16, 20, 24) for volume in volumes)
    assert all(np.array_equal(volume.affine, affine) for volume in volumes)
    assert volumes[0].orientation == "RAS"
    turned = np.degrees(np.arccos(np.diag(affine)[:3] / np.linalg.norm(affine[:3, :3], axis=0)))
    assert 0.5 < turned.max() < 10
    assert np.linalg.norm(affine[:3, 3]) > 1


def test_the_field_of_view_is_divided_by_the_size_unless_a_spacing_is_given() -> None:
    assert np.allclose(image("mask", side=16).spacing_mm, (12.5, 15.5, 13.5))
    given = Phantom(size=(16, 16, 16), spacing_mm=(9.0, 10.0, 11.0)).cases()[0].images["mask"]()
    assert np.allclose(given.spacing_mm, (9, 10, 11))


@pytest.mark.parametrize("anatomy", ANATOMIES)
def test_a_subject_has_one_shape_at_every_resolution(anatomy) -> None:
    coarse = image("mask", anatomy=anatomy, side=24).data.mean()
    fine = image("mask", anatomy=anatomy, side=48).data.mean()
    assert abs(coarse / fine - 1) < 0.02


# Anatomy


@pytest.mark.parametrize("anatomy", ANATOMIES)
@pytest.mark.parametrize("lesions", [False, True])
def test_every_tissue_of_the_table_is_there_and_no_other(anatomy, lesions) -> None:
    found = {Tissue(value) for value in np.unique(image("labels", anatomy=anatomy, lesions=lesions).data)}
    assert found == EVERYWHERE | OWN[anatomy] | ({Tissue.LESION} if lesions else set())


@pytest.mark.parametrize("anatomy", ANATOMIES)
def test_lesions_change_nothing_else(anatomy) -> None:
    without, having = (image("labels", anatomy=anatomy, lesions=lesions).data for lesions in (False, True))
    assert np.array_equal(without[having != Tissue.LESION], having[having != Tissue.LESION])


@pytest.mark.parametrize("anatomy", ANATOMIES)
def test_the_mask_is_the_body_with_its_cavities(anatomy) -> None:
    mask, labels = image("mask", anatomy=anatomy), image("labels", anatomy=anatomy)
    assert mask.data.dtype == labels.data.dtype == np.uint8
    assert np.array_equal(mask.data == 1, labels.data > 0)
    assert mask.data[labels.data == Tissue.GAS].all()
    assert 0.2 < mask.data.mean() < 0.8


def test_right_is_right_in_every_head() -> None:
    for index in range(6):
        volume = image("labels", index=index)
        voxels = np.argwhere(volume.data == Tissue.BLOOD)
        centre = volume.affine[:3, :3] @ ((np.array(volume.data.shape) - 1) / 2) + volume.affine[:3, 3]
        x = (voxels @ volume.affine[:3, :3].T + volume.affine[:3, 3] - centre)[:, 0]
        assert (x > 12).sum() > 1.1 * (x < -12).sum(), "the right transverse sinus and jugular vein are the larger ones"


# MR


@pytest.mark.parametrize("anatomy", ANATOMIES)
@pytest.mark.parametrize("modality", MR)
def test_mr_is_a_magnitude_of_ordinary_size(anatomy, modality) -> None:
    data = image(modality, anatomy=anatomy).data
    assert data.dtype == np.float32
    assert data.min() >= 0
    assert 150 < np.percentile(data, 99) < 1500
    air = data[image("labels", anatomy=anatomy).data == Tissue.AIR]
    assert 0 < np.median(air) < 0.08 * np.percentile(data, 99)


@pytest.mark.parametrize("index", range(2))
def test_head_contrasts_are_those_of_their_sequences(index) -> None:
    def order(modality: str, *tissues: Tissue) -> None:
        means = [mean(modality, tissue, index=index) for tissue in tissues]
        assert means == sorted(means, reverse=True), (modality, means)

    order("t1", Tissue.FAT, Tissue.WHITE, Tissue.GREY, Tissue.CSF, Tissue.BONE)
    order("t2", Tissue.CSF, Tissue.GREY, Tissue.WHITE, Tissue.MUSCLE, Tissue.BONE)
    order("flair", Tissue.GREY, Tissue.CSF)
    order("pd", Tissue.FAT, Tissue.GREY, Tissue.WHITE, Tissue.BONE)
    assert mean("t2", Tissue.CSF, index=index) > 1.8 * mean("t2", Tissue.WHITE, index=index)
    assert mean("flair", Tissue.CSF, index=index) < 0.3 * mean("flair", Tissue.WHITE, index=index)


def test_lesions_are_bright_on_flair_and_take_up_contrast() -> None:
    def ratio(modality: str, tissue: Tissue) -> float:
        return mean(modality, tissue, lesions=True) / mean(modality, Tissue.WHITE, lesions=True)

    assert ratio("flair", Tissue.LESION) > 1.5
    assert ratio("t1", Tissue.LESION) < 0.95
    assert ratio("t1ce", Tissue.LESION) > 1.1
    assert ratio("t1ce", Tissue.GREY) == pytest.approx(ratio("t1", Tissue.GREY), rel=0.08)


def test_contrast_agent_reaches_vessels_and_mucosa() -> None:
    labels = image("labels").data
    for tissue in (Tissue.BLOOD, Tissue.MUCOSA):
        there = labels == tissue
        after, before = (np.median(image(modality).data[there]) for modality in ("t1ce", "t1"))
        assert after > 1.3 * before


# CT and cone-beam CT


@pytest.mark.parametrize(
    ("anatomy", "tissue", "tolerance"),
    [
        ("head", Tissue.AIR, 12), ("head", Tissue.CSF, 12), ("head", Tissue.GREY, 12), ("head", Tissue.WHITE, 8),
        ("pelvis", Tissue.FAT, 12), ("pelvis", Tissue.MUSCLE, 8), ("pelvis", Tissue.URINE, 10),
        ("pelvis", Tissue.MARROW, 60),
    ],
)  # fmt: skip
def test_ct_is_in_hounsfield_units(anatomy, tissue, tolerance) -> None:
    assert mean("ct", tissue, anatomy=anatomy) == pytest.approx(PROPERTIES[tissue].hu, abs=tolerance)


@pytest.mark.parametrize("anatomy", ANATOMIES)
def test_cone_beam_ct_sees_a_cylinder(anatomy) -> None:
    cbct, mask = image("cbct", anatomy=anatomy).data, image("mask", anatomy=anatomy).data
    seen = cbct > -1000
    assert not seen[0].any()
    assert not seen[-1].any()
    assert not seen[:, :, [0, -1]].any()
    assert seen[20:28, 20:28, 12:36][mask[20:28, 20:28, 12:36] > 0].mean() > 0.9
    assert 0.04 < ((mask > 0) & ~seen).mean() / mask.mean() < 0.6


@pytest.mark.parametrize("anatomy", ANATOMIES)
def test_cone_beam_ct_cups(anatomy) -> None:
    """It falls short of CT, the more the deeper in the body."""
    depth = distance_transform_edt(image("mask", anatomy=anatomy).data)
    cbct = image("cbct", anatomy=anatomy).data
    short = image("ct", anatomy=anatomy).data - cbct
    soft = (np.abs(image("ct", anatomy=anatomy).data) < 150) & (cbct > -1000)
    deep, middle, shallow = (
        float(np.median(short[soft & (depth > low) & (depth <= high)])) for low, high in ((8, 99), (4, 8), (1, 4))
    )
    assert deep > middle > shallow
    assert deep > shallow + 25


@pytest.mark.parametrize(("anatomy", "without_streaks"), [("head", 0.07), ("pelvis", 0.26)])
def test_cone_beam_ct_is_noisy_and_streaked(anatomy, without_streaks) -> None:
    ct, cbct = (image(modality, anatomy=anatomy).data for modality in ("ct", "cbct"))
    even = minimum_filter((np.abs(ct) < 150) & (cbct > -1000), 5)  # away from edges, which blur moves
    error = cbct - ct
    error -= gaussian_filter(error, 2)
    above, below = (error[:, :, part][even[:, :, 1:] & even[:, :, :-1]] for part in (slice(1, None), slice(-1)))
    # Noise is independent from slice to slice; streaks run on along the axis of the gantry.
    assert 30 < (above - below).std() / np.sqrt(2) < 60
    assert np.corrcoef(above, below)[0, 1] > without_streaks + 0.05
