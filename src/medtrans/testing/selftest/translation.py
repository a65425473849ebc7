"""The checks of the way from file to file: place, intensities and headers, with an identity for a network.

What a prediction is compared by is read back with nibabel, a library that is not medtrans.
"""

from __future__ import annotations

import gzip
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import nibabel
import numpy as np
import torch
from nibabel import affines, orientations
from nibabel.nifti1 import Nifti1Extension
from torch import Tensor, nn

from medtrans.config.loading import load_config
from medtrans.data.preprocessing import make_preprocessing
from medtrans.inference.prediction import write_translation
from medtrans.inference.translator import Translator
from medtrans.plugins.interfaces import Method
from medtrans.volume import Volume, write

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from medtrans.types import Batch

__all__ = ["check_headers", "check_intensities", "check_orientation", "identity_translator"]


class _Unchanged(nn.Module):
    """Answers its input; its sides must divide by 4, so that volumes are padded as for a real network."""

    multiple = 4

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Parameter(torch.ones(()))

    def forward(self, source: Tensor) -> Tensor:
        return source * self.one


class _Identity(Method):
    """A method that has learnt nothing."""

    def __init__(self) -> None:
        self.network = _Unchanged()

    def networks(self) -> dict[str, nn.Module]:
        return {"generator": self.network}

    def setup(self, fabric: Fabric) -> None:
        """There is nothing to train."""

    def training_step(self, batch: Batch, step: int) -> dict[str, Tensor]:
        return {}

    def translate(self, source: Tensor) -> Tensor:
        with torch.no_grad():
            answered: Tensor = self.network(source)
            return answered.clamp(0, 1)

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """There is no state."""


def identity_translator(folder: Path, *, window: tuple[float, float], crop: str = "foreground") -> Translator:
    """The whole way from file to file, overlapping windows included, with an identity for a network.

    Args:
        folder: that the config names.
        window: of intensities, the same for source and target.
        crop: box that is kept.
    """
    scaling = {"name": "window", "options": {"range": list(window)}}
    experiment = load_config(
        [
            {
                "output_dir": str(folder / "run"),
                "dataset": {"name": "phantom"},
                "source": ["cbct"],
                "target": ["ct"],
                "preprocess": {"intensity": {"cbct": scaling, "ct": scaling}, "crop": crop},
                "patch": {"size": [12, 12, 12]},
                "discriminator": None,
                "losses": {"l1": {}},
                "train": {"best": None},
                "inference": {"overlap": 0.5, "batch": 8},
            }
        ]
    )
    return Translator(experiment, _Identity(), make_preprocessing(experiment), {})


TOLERANCE_MM = 1e-4
_MARKER = 1000
_SHAPE = (14, 17, 12)


def check_orientation(folder: Path) -> tuple[bool, str]:
    """Translate an asymmetric marker in all 48 voxel orders, aligned and oblique by turns, and look where it lies."""
    translator = identity_translator(folder, window=(0.0, 1024.0))
    worst, changed = 0.0, 0
    for number, (axes, signs) in enumerate(
        itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3))
    ):
        order = np.array(list(zip(axes, signs, strict=True)), dtype=float)
        volume = _marked(number, _ras(oblique=number % 2 == 1) @ cast("Any", orientations).inv_ornt_aff(order, _SHAPE))
        write(volume, folder / "source.nii.gz")
        translated = translator.translate(folder / "source.nii.gz")
        write(cast("Volume", translated), folder / "translated.nii.gz")
        image: Any = nibabel.load(folder / "translated.nii.gz")
        values = np.rint(np.asarray(image.dataobj))
        changed += int(values.shape != volume.shape or np.count_nonzero(values != volume.data))
        worst = max(worst, _apart(_places(volume.data, volume.affine), _places(values, image.affine)))
    figure = f"48 voxel orders, {worst:.1e} mm off at most, {changed} voxels changed"
    return worst <= TOLERANCE_MM and changed == 0, figure


def _ras(*, oblique: bool) -> np.ndarray:
    affine = np.diag((0.9, 1.3, 2.1, 1.0))
    if oblique:
        turn, tilt = np.deg2rad(14), np.deg2rad(-9)
        about_k = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
        about_i = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
        affine[:3, :3] = about_k @ about_i @ affine[:3, :3]
    affine[:3, 3] = (-31.2, 17.75, 52.125)
    return affine


def _marked(seed: int, affine: np.ndarray) -> Volume:
    """Speckle off centre with the letter L in it, which no flip and no exchange of axes leaves as it is."""
    data = np.zeros(_SHAPE, dtype=np.int16)
    tissue = tuple(slice(2, side - 1) for side in _SHAPE)
    data[tissue] = np.random.default_rng(seed).integers(200, 900, data[tissue].shape)
    data[3:9, 4, 5] = data[3, 4:8, 5] = data[3, 4, 5:7] = _MARKER
    return Volume(data, affine, 1)


def _places(values: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """World positions of the marker's voxels, in an order of the world's."""
    found = cast("Any", affines).apply_affine(affine, np.argwhere(np.rint(values) == _MARKER))
    return np.asarray(found[np.lexsort(np.rint(found * 100).T)])


def _apart(expected: np.ndarray, found: np.ndarray) -> float:
    return float(np.abs(expected - found).max()) if expected.shape == found.shape else float("inf")


TOLERANCE_HU = 0.5
_LOW, _HIGH = -1024, 3071


def check_intensities(folder: Path) -> tuple[bool, str]:
    """Send every HU from -1024 to 3071 from file to file, stored as integers and as floats."""
    translator = identity_translator(folder, window=(float(_LOW), float(_HIGH)), crop="none")
    ramp = np.arange(_LOW, _HIGH + 1).reshape(16, 16, 16)
    worst = 0.0
    types = (np.int16, np.int32, np.float32)
    for kind in types:
        write(Volume(ramp.astype(kind), np.eye(4)), folder / "ramp.nii.gz")
        write(cast("Volume", translator.translate(folder / "ramp.nii.gz")), folder / "back.nii.gz")
        back: Any = nibabel.load(folder / "back.nii.gz")
        worst = max(worst, float(np.abs(np.asarray(back.dataobj, dtype=np.float64) - ramp).max()))
    return worst <= TOLERANCE_HU, f"{ramp.size} HU as {len(types)} types, {worst:.2g} HU off at most"


_FIELDS = ("descrip", "db_name", "aux_file", "intent_name")
_EXTENSIONS = (4, 6, 44)  # AFNI, comment, PSIR
_CANARY = "CanaryPatient"


def check_headers(folder: Path) -> tuple[bool, str]:
    """Plant a name in every text of a header, translate, and look for it in all that was written."""
    home = folder / f"{_CANARY}Folder"
    home.mkdir()
    image: Any = nibabel.Nifti1Image(np.arange(1728, dtype=np.int16).reshape(12, 12, 12) % 900, np.eye(4))  # type: ignore[no-untyped-call]  # nibabel leaves it untyped
    image.set_sform(np.eye(4), 1)
    image.set_qform(np.eye(4), 1)
    for field in _FIELDS:
        image.header[field] = f"{_CANARY}{field}"[:16].encode()
    for code in _EXTENSIONS:
        image.header.extensions.append(Nifti1Extension(code, f"{_CANARY}{code}".encode()))
    nibabel.save(image, home / f"{_CANARY}.nii.gz")
    translator = identity_translator(folder, window=(0.0, 1000.0), crop="none")
    translated = cast("Volume", translator.translate(home / f"{_CANARY}.nii.gz"))
    written = write_translation(translator, "ct", translated, folder / "out" / "case.nii.gz")
    found = [path.name for path in written.parent.iterdir() if _CANARY.encode() in _content(path)]
    planted = len(_FIELDS) + len(_EXTENSIONS)
    here = gzip.decompress((home / f"{_CANARY}.nii.gz").read_bytes()).count(_CANARY.encode())
    figure = f"{planted} names planted, {here} in the scan, {len(found)} files with one after translation"
    return not found and here == planted, figure


def _content(path: Path) -> bytes:
    content = path.read_bytes()
    return gzip.decompress(content) if path.name.endswith(".gz") else content
