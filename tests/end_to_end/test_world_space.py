"""Every voxel of a prediction lies where the source's voxel lay: the whole way from file to file, with a generator that
answers what it is asked.

Each of the 48 voxel orders once, the affines aligned and oblique by turns and the sizes even, odd and prime by turns;
`-m soak` takes all 48 x 2 x 3 combinations.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
from nibabel.orientations import inv_ornt_aff
from scipy.spatial.transform import Rotation

import medtrans
from medtrans.config.loading import load_config
from medtrans.data.preprocessing import make_preprocessing
from medtrans.inference.translator import Translator
from medtrans.training.build import make_method
from medtrans.volume import Volume, write
from medtrans.volume.resampling import canonical, regrid
from tests.helpers.pairs import config_of, write_pairs

IDENTITY = '''
"""A generator that answers its input."""
import torch
from torch import nn

from medtrans import Component, hookimpl


class Identity(nn.Module):
    """Nothing is changed."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.one = nn.Parameter(torch.ones(()))

    def forward(self, source):
        return source * self.one


@hookimpl
def medtrans_generators():
    return [Component("same", Identity)]
'''

ORDERS = [
    np.array(list(zip(axes, signs, strict=True)), dtype=float)
    for axes in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]
SIZES = {"even": (16, 18, 20), "odd": (15, 21, 17), "prime": (13, 17, 19)}
POSES = {"aligned": False, "oblique": True}
MARKER = 1000
TOLERANCE_MM = 1e-4


OBLIQUE = Rotation.from_euler("xyz", (11, -17, 8), degrees=True).as_matrix()


def affine_of(order: int, shape: tuple[int, ...], *, oblique: bool) -> np.ndarray:
    """Voxels of 0.9 x 1.3 x 2.1 mm counted in one of the 48 orders."""
    ras = np.eye(4)
    ras[:3, :3] = (OBLIQUE if oblique else np.eye(3)) @ np.diag((0.9, 1.3, 2.1))
    ras[:3, 3] = (-31.2, 17.75, 52.125)
    return np.asarray(ras @ inv_ornt_aff(ORDERS[order], shape))


def marked(order: int, shape: tuple[int, int, int], *, oblique: bool) -> Volume:
    """Speckled tissue off centre with the letter L in it, which no flip and no exchange of axes leaves as it is."""
    data = np.zeros(shape, dtype=np.int16)
    tissue = tuple(slice(2, side - 1) for side in shape)
    data[tissue] = np.random.default_rng(order).integers(200, 900, data[tissue].shape)
    data[3:10, 4, 5] = MARKER
    data[3, 4:8, 5] = MARKER
    data[3, 4, 5:7] = MARKER
    return Volume(data, affine_of(order, shape, oblique=oblique), 1)


def marker_mm(values: np.ndarray, to_world: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """World positions of the marker's voxels, in an order of the world's."""
    found = to_world(np.argwhere(np.rint(values) == MARKER).astype(float))
    return found[np.lexsort(np.rint(found * 100).T)]


def by_nibabel(path: Path) -> tuple[np.ndarray, np.ndarray]:
    image = nibabel.load(path)
    values = np.asarray(image.dataobj)
    return values, marker_mm(values, lambda voxels: nibabel.affines.apply_affine(image.affine, voxels))


def by_simpleitk(path: Path) -> tuple[np.ndarray, np.ndarray]:
    image = SimpleITK.ReadImage(str(path))
    values = SimpleITK.GetArrayFromImage(image).transpose(2, 1, 0)

    def to_world(voxels: np.ndarray) -> np.ndarray:
        points = [image.TransformContinuousIndexToPhysicalPoint([float(v) for v in voxel]) for voxel in voxels]
        return np.array(points).reshape(-1, 3) * (-1, -1, 1)  # ITK's world is LPS+

    return values, marker_mm(values, to_world)


def check(translator: Translator, volume: Volume, folder: Path) -> None:
    """Translate a file into a file: the marker stays in its place in the world and no voxel changes."""
    write(volume, folder / "source.nii.gz")
    translated = translator.translate(folder / "source.nii.gz")
    assert isinstance(translated, Volume)
    write(translated, folder / "translated.nii.gz")
    expected = marker_mm(volume.data, lambda voxels: nibabel.affines.apply_affine(volume.affine, voxels))
    for values, positions in (by_nibabel(folder / "translated.nii.gz"), by_simpleitk(folder / "translated.nii.gz")):
        assert positions.shape == expected.shape
        assert np.abs(positions - expected).max() <= TOLERANCE_MM
        assert values.shape == volume.shape
        np.testing.assert_array_equal(np.rint(values), volume.data)
        assert np.abs(values - volume.data).max() < 1e-2


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Translator:
    """All of the way but training: guarded reader, preprocessing, overlapping windows, restoring."""
    folder = tmp_path_factory.mktemp("identity")
    (folder / "identity.py").write_text(IDENTITY)
    window = {"name": "window", "options": {"range": [0.0, 1024.0], "unit": ""}}
    changes = {
        "preprocess": {"intensity": {"t1": window, "t2": window}},
        "generator": {"name": "identity:same"},
        "inference": {"window": [12, 12, 12], "overlap": 0.25, "batch": 8},
    }
    experiment = load_config([config_of(folder, folder / "run"), changes], plugins=[folder / "identity.py"])
    return Translator(experiment, make_method(experiment, training_cases=None), make_preprocessing(experiment), {})


@pytest.mark.parametrize("order", range(48))
def test_a_prediction_lies_where_its_source_lay(identity, tmp_path, order):
    size = list(SIZES.values())[order // 2 % 3]
    check(identity, marked(order, size, oblique=order % 2 == 1), tmp_path)


@pytest.mark.soak
@pytest.mark.parametrize("pose", POSES)
@pytest.mark.parametrize("size", SIZES)
def test_a_prediction_lies_where_its_source_lay_in_every_combination(identity, tmp_path, size, pose):
    for order in range(48):
        check(identity, marked(order, SIZES[size], oblique=POSES[pose]), tmp_path)


def moved_by(offset_voxels: Sequence[float]) -> Callable[[Volume], Volume]:
    return lambda one: Volume(one.data, one.affine @ nibabel.affines.from_matvec(np.eye(3), offset_voxels))


BUGS: dict[str, Callable[[Volume], Volume]] = {
    "first axis flipped": lambda one: Volume(np.flip(one.data, 0), one.affine),
    "second axis flipped": lambda one: Volume(np.flip(one.data, 1), one.affine),
    "third axis flipped": lambda one: Volume(np.flip(one.data, 2), one.affine),
    "two axes exchanged": lambda one: Volume(np.swapaxes(one.data, 1, 2), one.affine),
    "origin dropped": lambda one: Volume(one.data, nibabel.affines.from_matvec(one.affine[:3, :3])),
    "half a voxel off": moved_by((0.5, 0.5, 0.5)),
}


@pytest.mark.parametrize("oblique", POSES.values(), ids=POSES.keys())
@pytest.mark.parametrize("bug", BUGS.values(), ids=BUGS.keys())
def test_this_very_check_notices_every_seeded_bug(identity, tmp_path, monkeypatch, bug, oblique):
    volume, right = marked(0, (16, 16, 16), oblique=oblique), Translator.restore
    check(identity, volume, tmp_path)
    monkeypatch.setattr(Translator, "restore", lambda *given: {name: bug(one) for name, one in right(*given).items()})
    with pytest.raises(AssertionError):
        check(identity, volume, tmp_path)


def test_resampling_and_back_keeps_the_marker_in_its_place(identity: Translator, tmp_path: Path) -> None:
    """With another voxel size the values are interpolated, but nothing is moved: not by half a voxel of either grid."""

    def places_mm(one: Volume) -> np.ndarray:
        return nibabel.affines.apply_affine(one.affine, np.moveaxis(np.indices(one.shape), 0, -1))

    def centre_mm(one: Volume) -> np.ndarray:
        return (places_mm(one) * one.data[..., None].astype(float)).sum((0, 1, 2)) / one.data.sum()

    volume = Volume(np.zeros((24, 22, 20), np.float32), affine_of(29, (24, 22, 20), oblique=True))
    middle = nibabel.affines.apply_affine(volume.affine, (10.3, 10.6, 10.2))
    volume.data[:] = MARKER * np.exp(-0.5 * ((places_mm(volume) - middle) ** 2).sum(axis=-1) / 3**2)
    spaced = make_preprocessing(identity.experiment)
    spaced.spacing_mm = (1.1, 1.1, 1.1)
    translated = Translator(identity.experiment, identity.method, spaced, {}).translate(volume)
    assert translated.grid.distance_mm(volume.grid) < TOLERANCE_MM
    assert np.abs(centre_mm(translated) - centre_mm(volume)).max() < 0.05


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> medtrans.Translator:
    """A network of one training step, whose answer depends on direction as any network's does."""
    folder = tmp_path_factory.mktemp("trained")
    config = config_of(write_pairs(folder / "data", 5, side=16), folder / "run")
    return medtrans.load(medtrans.run(config, ["inference.overlap=0.25", "inference.batch=4"]).path)


def test_one_volume_stored_in_48_orders_gets_one_prediction(trained: medtrans.Translator) -> None:
    ras = marked(0, (18, 16, 20), oblique=True)
    answers = []
    for order in ORDERS:
        # `order` says which world axis, and which way, each stored axis runs
        data = ras.data.transpose(order[:, 0].astype(int))
        data = np.ascontiguousarray(data[tuple(slice(None, None, int(sign)) for sign in order[:, 1])])
        stored = Volume(data, ras.affine @ np.linalg.inv(inv_ornt_aff(order, data.shape)))
        translated = trained.translate(stored)
        assert isinstance(translated, Volume)
        assert translated.shape == data.shape
        np.testing.assert_array_equal(translated.affine, stored.affine)
        grid = canonical(translated.grid)
        assert grid.distance_mm(ras.grid) < TOLERANCE_MM
        answers.append(regrid(translated.data, translated.grid, ras.grid))
    extent = np.ptp(answers[0])
    assert extent > 0
    assert max(float(np.abs(answer - answers[0]).max()) for answer in answers) <= 1e-4 * extent
    turned = trained.translate(Volume(np.flip(ras.data, 0).copy(), ras.affine))
    assert isinstance(turned, Volume)
    assert np.abs(np.flip(turned.data, 0) - answers[0]).max() > 1e-2 * extent  # so that equal answers mean something
