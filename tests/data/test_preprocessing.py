"""What networks see, and that everything comes back to where it lay: world space above all."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nibabel.affines import apply_affine
from nibabel.nifti1 import Nifti1Image
from nibabel.orientations import aff2axcodes
from nibabel.processing import resample_from_to
from scipy.spatial.transform import Rotation

from medtrans.builtin.transforms import MinMax, Percentile, Window
from medtrans.data.preprocessing import Preprocessing
from medtrans.errors import ConfigError, DataError, SetupError
from medtrans.volume import Grid, Volume

ORIGIN_MM = (-31.7, 12.3, 47.9)
OBLIQUE = Rotation.from_euler("xyz", (17, -12, 23), degrees=True).as_matrix()
ORIENTATIONS = [
    np.eye(3)[list(order)] * signs for order in permutations(range(3)) for signs in product((1, -1), repeat=3)
]
EVEN, ODD = (26, 20, 14), (25, 19, 15)
RESAMPLED_MM = 0.1  # what linear interpolation of voxels of 2.1 mm leaves of a smooth blob's centroid


def affine_of(
    directions: np.ndarray = ORIENTATIONS[0], spacing_mm: Sequence[float] = (0.9, 1.3, 2.1), *, oblique: bool = False
) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = (OBLIQUE if oblique else np.eye(3)) @ directions @ np.diag(spacing_mm)
    affine[:3, 3] = ORIGIN_MM
    return affine


def l_marker(shape: tuple[int, int, int], affine: np.ndarray) -> Volume:
    """An "L" whose arms differ in length and brightness, in a corner: no flip, turn or shift maps it on itself."""
    data = np.zeros(shape, dtype=np.float32)
    data[3:11, 4:6, 4:6] = 40
    data[3:5, 6:10, 4:6] = 70
    data[3:5, 4:6, 6:8] = 100
    return Volume(data, affine)


def smooth_marker(shape: tuple[int, int, int], affine: np.ndarray) -> Volume:
    """A blob off the centre, smooth enough to be interpolated."""
    voxels = apply_affine(affine, np.moveaxis(np.indices(shape), 0, -1))
    centre = apply_affine(affine, np.array([0.42, 0.55, 0.6]) * (np.array(shape) - 1))
    return Volume((100 * np.exp(-0.5 * ((voxels - centre) ** 2).sum(-1) / 2.4**2)).astype(np.float32), affine)


def centroid_mm(data: np.ndarray, affine: np.ndarray) -> np.ndarray:
    weights = data.astype(np.float64)
    voxel = [(weights * index).sum() / weights.sum() for index in np.indices(data.shape)]
    return apply_affine(affine, voxel)


def one_source(**settings: object) -> Preprocessing:
    return Preprocessing(["t1"], [], {"t1": Window(range=(0, 100))}, **settings)


@pytest.mark.parametrize(("oblique", "shape"), [(False, EVEN), (True, ODD)])
def test_a_resampled_marker_stays_in_place_in_all_48_orders_and_back_on_its_own_grid(oblique, shape):
    preprocessing = one_source(spacing_mm=(1.1, 1.4, 1.2), crop="none")
    for directions in ORIENTATIONS:
        volume = smooth_marker(shape, affine_of(directions, oblique=oblique))
        prepared = preprocessing.prepare({"t1": volume})
        assert aff2axcodes(prepared.grid.affine) == ("R", "A", "S")
        back = preprocessing.to_native(prepared.source, prepared)
        assert back.shape == (1, *volume.shape)
        truth = centroid_mm(volume.data, volume.affine)
        for image, affine in ((prepared.source[0], prepared.grid.affine), (back[0], volume.affine)):
            assert np.linalg.norm(centroid_mm(image, affine) - truth) <= RESAMPLED_MM


SHEARED = affine_of() @ np.array([[1, 0.1, 0, 0], [0, 1, -0.2, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
CUBIC = affine_of(ORIENTATIONS[13], (0.7, 0.7, 0.7), oblique=True)


@pytest.mark.parametrize(("affine", "spacing_mm"), [(SHEARED, None), (CUBIC, (0.7, 0.7, 0.7))])
def test_sheared_grids_and_a_spacing_that_the_source_has_already_keep_every_voxel(affine, spacing_mm):
    preprocessing, volume = one_source(spacing_mm=spacing_mm), l_marker(EVEN, affine)
    prepared = preprocessing.prepare({"t1": volume})
    moved = centroid_mm(prepared.source[0], prepared.grid.affine) - centroid_mm(volume.data, affine)
    assert np.linalg.norm(moved) <= 1e-4
    np.testing.assert_array_equal(preprocessing.to_native(prepared.source, prepared)[0], volume.data / np.float32(100))


@given(
    shape=st.tuples(*[st.integers(1, 12)] * 3),
    own=st.tuples(*[st.floats(0.4, 4)] * 3),
    wanted=st.tuples(*[st.floats(0.4, 4)] * 3),
    directions=st.sampled_from(ORIENTATIONS),
    oblique=st.booleans(),
)
def test_resampling_covers_the_whole_volume(shape, own, wanted, directions, oblique) -> None:
    data = np.full((shape[0] + 1, *shape[1:]), 60, dtype=np.int16)
    data[0] = 40
    volume = Volume(data, affine_of(directions, own, oblique=oblique))
    preprocessing = one_source(spacing_mm=wanted, crop="none")
    prepared = preprocessing.prepare({"t1": volume})
    np.testing.assert_allclose(prepared.grid.spacing_mm, wanted, rtol=1e-6)
    for seen in (prepared.source, preprocessing.to_native(prepared.source, prepared)):
        np.testing.assert_allclose(seen, 0.5, atol=0.1 + 1e-6)


def _world_ramp(grid: Grid) -> np.ndarray:
    """An intensity that is a linear function of where a voxel lies: linear interpolation must keep it."""
    positions = apply_affine(grid.affine, np.moveaxis(np.indices(grid.shape), 0, -1))
    return (positions @ (1.0, -0.7, 0.4)).astype(np.float32)


@pytest.mark.parametrize("spacing_mm", [None, (1.1, 1.4, 1.2)])
def test_other_images_come_onto_the_first_sources_grid(spacing_mm: tuple | None) -> None:
    first = Grid(EVEN, affine_of(ORIENTATIONS[5]))
    around = affine_of(ORIENTATIONS[40], (1.7, 0.8, 1.1), oblique=True)
    around[:3, 3] += first.corners_mm().mean(0) - apply_affine(around, np.array([39.5, 39.5, 39.5]))
    window = Window(range=(-200, 200))
    preprocessing = Preprocessing(["t1"], ["t2"], {"t1": window, "t2": window}, spacing_mm=spacing_mm, crop="none")
    other = Grid((80, 80, 80), around)
    images = {"t1": Volume(_world_ramp(first), first.affine), "t2": Volume(_world_ramp(other), other.affine)}
    prepared = preprocessing.prepare(images)
    seen = window.invert(prepared.target[0], prepared.numbers["t2"])
    np.testing.assert_allclose(seen, _world_ramp(prepared.grid), atol=1e-3)
    native = preprocessing.native_image(images["t2"], prepared)
    np.testing.assert_allclose(native, _world_ramp(first), atol=1e-3)


@pytest.mark.parametrize("nearest", [False, True])
def test_interpolation_agrees_with_nibabel(nearest: bool) -> None:
    rng = np.random.default_rng(3)
    volume = Volume(rng.uniform(0, 100, ODD).astype(np.float32), affine_of(ORIENTATIONS[5], oblique=True))
    onto = Grid(EVEN, affine_of(ORIENTATIONS[29], (1.1, 1.4, 1.2)))
    onto.affine[:3, 3] += volume.grid.corners_mm().mean(0) - onto.corners_mm().mean(0)
    prepared = one_source(crop="none").prepare({"t1": Volume(np.arange(np.prod(EVEN)).reshape(EVEN), onto.affine)})
    native = one_source().native_image(volume, prepared, nearest=nearest)
    image = Nifti1Image(volume.data, volume.affine)
    expected = resample_from_to(image, (EVEN, onto.affine), order=0 if nearest else 1, cval=-1).get_fdata()
    compared = expected >= 0
    assert compared.mean() > 0.3
    np.testing.assert_allclose(native[compared], expected[compared], atol=1e-4)


def test_images_on_the_same_grid_are_not_interpolated() -> None:
    rng = np.random.default_rng(0)
    affine = affine_of(ORIENTATIONS[7], oblique=True)
    nearly, reordered = affine.copy(), affine.copy()
    nearly[:3] += 1e-6
    data = rng.uniform(0, 100, EVEN).astype(np.float32)
    rotated = np.flip(data, 0).transpose(1, 0, 2)  # the same voxels counted otherwise
    reordered[:3, 3] = affine[:3, 3] + affine[:3, :3] @ (EVEN[0] - 1, 0, 0)
    reordered[:3, :3] = affine[:3, :3] @ np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]])
    window = Window(range=(0, 100))
    preprocessing = Preprocessing(["a", "b", "c"], [], dict.fromkeys("abc", window))
    images = {"a": Volume(data, affine), "b": Volume(data, nearly), "c": Volume(rotated, reordered)}
    prepared = preprocessing.prepare(images)
    assert prepared.source.shape[0] == 3
    np.testing.assert_array_equal(prepared.source[1], prepared.source[0])
    np.testing.assert_array_equal(prepared.source[2], prepared.source[0])
    assert preprocessing.native_image(images["b"], prepared) is data


def test_an_image_that_does_not_reach_takes_its_smallest_value() -> None:
    affine = affine_of(spacing_mm=(1, 1, 1))
    beside = affine.copy()
    beside[:3, 3] += (5, 0, 0)
    window = Window(range=(-1000, 1000))
    preprocessing = Preprocessing(["t1"], ["ct"], {"t1": Window(range=(0, 1)), "ct": window}, crop="none")
    ct = np.full(EVEN, 40, dtype=np.int16)
    ct[-1] = -900
    t1 = np.arange(np.prod(EVEN)).reshape(EVEN)
    prepared = preprocessing.prepare({"t1": Volume(t1, affine), "ct": Volume(ct, beside)})
    seen = window.invert(prepared.target[0], prepared.numbers["ct"])
    np.testing.assert_allclose(seen[:5], -900, atol=0.01)
    np.testing.assert_allclose(seen[5:], 40, atol=0.01)


def test_what_networks_see_has_the_promised_shapes_and_types() -> None:
    rng = np.random.default_rng(1)
    affine = affine_of(ORIENTATIONS[20])
    images = {name: Volume(rng.uniform(0, 900, EVEN), affine, 2) for name in ("t1", "t2", "ct", "labels")}
    images["mask"] = Volume((rng.random(EVEN) > 0.5).astype(np.int16) * 7, affine)
    scalings = {"t1": Percentile(), "t2": MinMax(), "ct": Window(range=(0, 500))}
    preprocessing = Preprocessing(["t1", "t2"], ["ct"], scalings)
    prepared = preprocessing.prepare(images)
    for array, channels, kind in (
        (prepared.source, 2, np.float32), (prepared.target, 1, np.float32), (prepared.mask, 1, np.uint8),
    ):  # fmt: skip
        assert (array.shape, array.dtype) == ((channels, *prepared.grid.shape), kind)
        assert 0 <= array.min() <= array.max() <= 1
    assert (prepared.native.shape, prepared.space_code) == (EVEN, 2)
    assert set(prepared.numbers) == set(prepared.clipped) == {"t1", "t2", "ct"}
    without = preprocessing.prepare({name: images[name] for name in ("t1", "t2")})
    assert (without.target, without.mask, set(without.numbers)) == (None, None, {"t1", "t2"})


@pytest.mark.parametrize("spacing_mm", [None, (0.3, 0.4, 0.35)])
def test_the_mask_stays_a_mask_and_lies_where_it_lay(spacing_mm: tuple | None) -> None:
    volume = smooth_marker(EVEN, affine_of(ORIENTATIONS[11], oblique=True))
    mask = Volume((volume.data > 50).astype(np.float32) * 3, volume.affine)
    prepared = one_source(spacing_mm=spacing_mm).prepare({"t1": volume, "mask": mask})
    assert set(np.unique(prepared.mask)) == {0, 1}
    moved = centroid_mm(prepared.mask[0], prepared.grid.affine) - centroid_mm(mask.data, mask.affine)
    assert np.linalg.norm(moved) <= (1e-4 if spacing_mm is None else 0.1)


def test_scalings_are_fitted_inside_the_mask_to_the_cropped_image() -> None:
    volume = l_marker(EVEN, affine_of())
    volume.data[3, 4, 4] = 100000  # outside the mask
    mask = np.zeros(EVEN, dtype=bool)
    mask[4:11, 4:6, 4:6] = True
    mask[4, 7, 4] = True
    preprocessing = Preprocessing(["t1"], [], {"t1": MinMax()})
    prepared = preprocessing.prepare({"t1": volume, "mask": Volume(mask, volume.affine)})
    assert prepared.numbers["t1"] == {"low": 40.0, "high": 70.0}
    bright = preprocessing.prepare({"t1": volume})
    assert bright.numbers["t1"] == {"low": 0.0, "high": 100000.0}

    scene = Volume(np.zeros((24, 6, 6), dtype=np.float32), np.eye(4))
    scene.data[:] = -5
    scene.data[10:12] = 1000
    scene.data[0] = -9  # far from the foreground: cut off before fitting
    assert Preprocessing(["t1"], [], {"t1": MinMax()}).prepare({"t1": scene}).numbers["t1"]["low"] == -5


def test_a_spacing_that_would_fill_the_memory_is_refused() -> None:
    """Voxels of a metre are a header's mistake, and a millimetre cuts each into a thousand million."""
    volume = l_marker(EVEN, affine_of(spacing_mm=(1000.0, 1000.0, 1000.0)))
    with pytest.raises(SetupError):
        one_source(spacing_mm=(1, 1, 1)).prepare({"t1": volume})


def test_the_foreground_box_keeps_all_foreground_and_two_voxels_around():
    def box(data: np.ndarray) -> Grid:
        return one_source(crop="foreground").prepare({"t1": Volume(data.astype(np.float32), np.eye(4))}).grid

    data = np.random.default_rng(2).uniform(0, 5, (30, 30, 30))
    data[8:20, 10:12, 1:29] += 100
    assert box(data).shape == (16, 6, 30)
    np.testing.assert_array_equal(box(data).affine[:3, 3], (6, 8, 0))
    single = np.zeros((30, 30, 30))
    single[15, 15, 15] = 1
    assert box(single).shape == (5, 5, 5)
    assert box(1 - single).shape == (30, 30, 30)  # all is foreground, but for a voxel


def test_the_mask_box() -> None:
    volume = l_marker(EVEN, affine_of())
    mask = np.zeros(EVEN, dtype=np.uint8)
    mask[5:9, 6:14, 0:3] = 1
    preprocessing = one_source(crop="mask")
    prepared = preprocessing.prepare({"t1": volume, "mask": Volume(mask, volume.affine)})
    assert prepared.grid.shape == (8, 12, 5)
    assert prepared.mask.sum() == mask.sum()
    with pytest.raises(DataError, match="mask: no such image"):
        preprocessing.prepare({"t1": volume})
    with pytest.raises(DataError, match="holds no voxel"):
        preprocessing.prepare({"t1": volume, "mask": Volume(np.zeros_like(mask), volume.affine)})


@pytest.mark.parametrize("spacing_mm", [None, (1.1, 1.4, 1.2)])
def test_outside_the_box_the_native_grid_holds_0(spacing_mm: tuple | None) -> None:
    preprocessing = one_source(spacing_mm=spacing_mm)
    volume = l_marker(EVEN, affine_of(ORIENTATIONS[33], oblique=True))
    prepared = preprocessing.prepare({"t1": volume})
    back = preprocessing.to_native(np.ones((2, *prepared.grid.shape), dtype=np.float32), prepared)
    assert back.shape == (2, *EVEN)
    assert set(np.unique(back)) == {0, 1}
    move = np.linalg.inv(prepared.grid.affine) @ volume.affine
    centres = apply_affine(move, np.moveaxis(np.indices(EVEN), 0, -1).astype(float))
    within = ((centres > -0.5) & (centres < np.array(prepared.grid.shape) - 0.5)).all(-1)
    np.testing.assert_array_equal(back[0] == 1, within)


@pytest.mark.parametrize("dtype", [np.uint8, ">i2", np.bool_, np.float16, np.int64])
def test_labels_come_to_the_native_grid_as_they_are(dtype: object) -> None:
    preprocessing = one_source()
    prepared = preprocessing.prepare({"t1": l_marker(EVEN, affine_of())})
    labels = np.zeros((9, 11, 8), dtype=dtype)
    labels[3:, 4:] = 1 if dtype is np.bool_ else 77
    coarse = affine_of(spacing_mm=(1.8, 2.6, 4.2))
    coarse[:3, 3] += coarse[:3, :3] @ (-0.25, -0.25, -0.25) + (0.4, 0, 0)
    native = preprocessing.native_image(Volume(labels, coarse), prepared, nearest=True)
    assert native.shape == EVEN
    assert native.dtype == labels.dtype
    assert set(np.unique(native)) == set(np.unique(labels))


def test_missing_sources_and_settings_are_all_named() -> None:
    with pytest.raises(DataError, match=r"(?s)t1: no such image.*flair: no such image"):
        Preprocessing(["t1", "t2", "flair"], [], dict.fromkeys(("t1", "t2", "flair"), MinMax())).prepare(
            {"t2": l_marker(EVEN, affine_of())}
        )
    with pytest.raises(ConfigError, match=r"(?s)intensity\.t1.*intensity\.ct.*crop: .*'box'"):
        Preprocessing(["t1"], ["ct"], {}, crop="box")
