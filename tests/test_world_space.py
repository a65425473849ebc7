"""Every voxel of a prediction lies where the source's voxel lay: the whole way from file to file, with a generator that
answers what it is asked.

The fast tests take each of the 48 voxel orders once, the affines aligned and oblique by turns and the sizes even, odd
and prime by turns; `-m slow` takes all 48 x 2 x 3 combinations.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK
from nibabel.orientations import inv_ornt_aff

import medtrans
from medtrans.assembly import make_method, make_preprocessing
from medtrans.config import load_config
from medtrans.inference import Translator
from medtrans.preprocess import Prepared, Preprocessing
from medtrans.regrid import canonical, regrid
from medtrans.volume import Volume, write

IDENTITY = '''
"""A generator that answers its input."""
import torch
from torch import nn

from medtrans import Component, hookimpl


class Identity(nn.Module):
    """Nothing is changed.

    Args:
        in_channels: of the source.
        out_channels: of the target, as many.
    """

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
ALL = [(order, pose, size) for order in range(48) for pose in POSES for size in SIZES]
FEW = [(order, list(POSES)[order % 2], list(SIZES)[order // 2 % 3]) for order in range(48)]
MARKER = 1000
TOLERANCE_MM = 1e-4


def rotation() -> np.ndarray:
    """About all three axes, by 11, -17 and 8 degrees."""
    turned = np.eye(3)
    for axis, degrees in enumerate((11, -17, 8)):
        angle = np.deg2rad(degrees)
        one, other = (axis + 1) % 3, (axis + 2) % 3
        step = np.eye(3)
        step[one, one] = step[other, other] = np.cos(angle)
        step[one, other], step[other, one] = -np.sin(angle), np.sin(angle)
        turned = turned @ step
    return turned


def affine_of(order: int, shape: tuple[int, ...], *, oblique: bool) -> np.ndarray:
    """Voxels of 0.9 x 1.3 x 2.1 mm counted in one of the 48 orders."""
    ras = np.eye(4)
    ras[:3, :3] = (rotation() if oblique else np.eye(3)) @ np.diag((0.9, 1.3, 2.1))
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
    config: dict[str, Any] = {
        "output_dir": str(folder / "run"),
        "dataset": {"name": "phantom"},
        "source": ["t1"],
        "target": ["t2"],
        "preprocess": {"intensity": {"t1": window, "t2": window}},
        "generator": {"name": "identity:same"},
        "discriminator": None,
        "losses": {"l1": {}},
        "inference": {"window": [12, 12, 12], "overlap": 0.25, "batch": 8},
    }
    experiment = load_config([config], plugins=[folder / "identity.py"])
    return Translator(experiment, make_method(experiment, training_cases=None), make_preprocessing(experiment), {})


@pytest.mark.parametrize(("order", "pose", "size"), FEW)
def test_a_prediction_lies_where_its_source_lay(
    identity: Translator, tmp_path: Path, order: int, pose: str, size: str
) -> None:
    check(identity, marked(order, SIZES[size], oblique=POSES[pose]), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("order", "pose", "size"), ALL)
def test_a_prediction_lies_where_its_source_lay_in_every_combination(
    identity: Translator, tmp_path: Path, order: int, pose: str, size: str
) -> None:
    check(identity, marked(order, SIZES[size], oblique=POSES[pose]), tmp_path)


def flipped(axis: int) -> Callable[[pytest.MonkeyPatch], None]:
    def seed(monkeypatch: pytest.MonkeyPatch) -> None:
        right = Preprocessing.to_native
        monkeypatch.setattr(
            Preprocessing, "to_native", lambda self, scaled, prepared: np.flip(right(self, scaled, prepared), axis + 1)
        )

    return seed


def swapped(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Preprocessing.to_native
    monkeypatch.setattr(
        Preprocessing, "to_native", lambda self, scaled, prepared: np.swapaxes(right(self, scaled, prepared), 2, 3)
    )


def moved(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[pytest.MonkeyPatch], None]:
    def seed(monkeypatch: pytest.MonkeyPatch) -> None:
        right = Translator.restore

        def wrong(self: Translator, scaled: np.ndarray, prepared: Prepared) -> dict[str, Volume]:
            restored = right(self, scaled, prepared)
            return {name: Volume(one.data, change(one.affine), one.space_code) for name, one in restored.items()}

        monkeypatch.setattr(Translator, "restore", wrong)

    return seed


def without_origin(affine: np.ndarray) -> np.ndarray:
    changed = affine.copy()
    changed[:3, 3] = 0
    return changed


def half_a_voxel_on(affine: np.ndarray) -> np.ndarray:
    changed = affine.copy()
    changed[:3, 3] += affine[:3, :3] @ (0.5, 0.5, 0.5)
    return changed


BUGS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "first axis flipped": flipped(0),
    "second axis flipped": flipped(1),
    "third axis flipped": flipped(2),
    "two axes exchanged": swapped,
    "origin dropped": moved(without_origin),
    "half a voxel off": moved(half_a_voxel_on),
}


@pytest.mark.parametrize("oblique", POSES.values(), ids=POSES.keys())
@pytest.mark.parametrize("bug", BUGS.values(), ids=BUGS.keys())
def test_this_very_check_notices_every_seeded_bug(
    identity: Translator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    bug: Callable[[pytest.MonkeyPatch], None],
    oblique: bool,
) -> None:
    volume = marked(0, (16, 16, 16), oblique=oblique)
    check(identity, volume, tmp_path)
    bug(monkeypatch)
    with pytest.raises(AssertionError):
        check(identity, volume, tmp_path)


def test_resampling_and_back_keeps_the_marker_in_its_place(identity: Translator, tmp_path: Path) -> None:
    """With another voxel size the values are interpolated, but nothing is moved: not by half a voxel of either grid."""
    affine = affine_of(29, (24, 22, 20), oblique=True)
    positions = nibabel.affines.apply_affine(affine, np.moveaxis(np.indices((24, 22, 20)), 0, -1))
    middle = nibabel.affines.apply_affine(affine, (10.3, 10.6, 10.2))
    blob = MARKER * np.exp(-0.5 * ((positions - middle) ** 2).sum(axis=-1) / 3**2)
    volume = Volume(blob.astype(np.float32), affine)
    spaced = make_preprocessing(identity.experiment)
    spaced.spacing_mm = (1.1, 1.1, 1.1)
    translator = Translator(identity.experiment, identity.method, spaced, {})
    write(volume, tmp_path / "source.nii.gz")
    translated = translator.translate(tmp_path / "source.nii.gz")
    assert isinstance(translated, Volume)
    assert translated.grid.distance_mm(volume.grid) < TOLERANCE_MM

    def centre_mm(one: Volume) -> np.ndarray:
        weights = one.data.astype(float)
        voxels = np.moveaxis(np.indices(one.shape), 0, -1)
        mean = (voxels * weights[..., None]).sum(axis=(0, 1, 2)) / weights.sum()
        return np.asarray(nibabel.affines.apply_affine(one.affine, mean))

    assert np.abs(centre_mm(translated) - centre_mm(volume)).max() < 0.05


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> medtrans.Translator:
    """A network of one training step, whose answer depends on direction as any network's does."""
    config = {
        "output_dir": str(tmp_path_factory.mktemp("trained") / "run"),
        "dataset": {"name": "phantom", "options": {"subjects": 3, "size": [16, 16, 16]}},
        "source": ["t1"],
        "target": ["t2"],
        "split": {"by": "fractions", "train": 0.34, "validation": 0.33, "test": 0.33},
        "preprocess": {"intensity": {"t1": {"name": "percentile"}, "t2": {"name": "percentile"}}},
        "patch": {"size": [16, 16, 16]},
        "generator": {"name": "mdaunet", "options": {"preset": "fast", "width": 4, "growth": [4, 4]}},
        "discriminator": None,
        "losses": {"l1": {}},
        "train": {"steps": 1, "batch": 1, "workers": 0},
        "inference": {"overlap": 0.25, "batch": 4},
    }
    return medtrans.load(medtrans.run(config).path)


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
