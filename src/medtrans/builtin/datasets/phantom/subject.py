"""How one phantom subject comes from its recipe: its random streams, its grid, its pose, its images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import ClassVar, Literal, NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from medtrans.builtin.datasets.phantom import head, pelvis
from medtrans.builtin.datasets.phantom.scanners import SEQUENCES, cbct_image, ct_image, mr_image
from medtrans.builtin.datasets.phantom.shapes import Canvas, Points, Waves, as_column
from medtrans.builtin.datasets.phantom.tissues import Tissue
from medtrans.volume import Volume

__all__ = ["MODALITIES", "Image", "Recipe", "field_of_view_mm"]

MODALITIES = (*SEQUENCES, "ct", "cbct", "labels", "mask")
_ANATOMIES = MappingProxyType({"head": head, "pelvis": pelvis})

_TURN_DEGREES = 5.0
_SHIFT_MM = 20.0  # of the scan's centre in the world
_OFF_CENTRE_MM = 3.0  # of the anatomy in the scan


@dataclass(frozen=True)
class Recipe:
    """All that determines a phantom's subjects: the options of `Phantom` with the spacing worked out."""

    anatomy: Literal["head", "pelvis"]
    size: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    lesions: bool
    seed: int


@dataclass(frozen=True)
class Image:
    """One modality of one subject, drawn when called; equal images give equal bytes, in any process."""

    recipe: Recipe
    index: int
    modality: str
    cached_as: ClassVar[str] = "medtrans.builtin.datasets.phantom_subject.Image"  # as in the caches of 0.1

    def __call__(self) -> Volume:
        """Draw it."""
        subject = _subject(self.recipe, self.index)
        return Volume(data=self._voxels(subject), affine=subject.affine.copy())

    def _voxels(self, subject: _Subject) -> NDArray[np.generic]:
        if self.modality == "labels":
            return subject.labels.copy()
        if self.modality == "mask":
            return np.asarray(subject.labels != Tissue.AIR, np.uint8)
        # Tissues deviate alike in all images of one kind of scanner; gain and noise are an image's own.
        kind = "mr" if self.modality in SEQUENCES else "ct"
        tissues, noise = (_stream(self.recipe, self.index, of) for of in (f"tissues of {kind}", self.modality))
        if kind == "mr":
            return mr_image(SEQUENCES[self.modality], subject.fractions, subject.points, tissues, noise)
        draw = ct_image if self.modality == "ct" else cbct_image
        return draw(subject.fractions, self.recipe.spacing_mm, tissues, noise)


def field_of_view_mm(anatomy: str) -> tuple[float, float, float]:
    """What the anatomy needs, along right, front and up."""
    return pelvis.FIELD_OF_VIEW_MM if anatomy == "pelvis" else head.FIELD_OF_VIEW_MM


class _Subject(NamedTuple):
    fractions: Mapping[Tissue, NDArray[np.float32]]
    labels: NDArray[np.uint8]
    points: Points
    affine: NDArray[np.float64]


def _stream(recipe: Recipe, index: int, purpose: str) -> np.random.Generator:
    """Random numbers for one purpose; drawing more for one changes no other."""
    words = [recipe.seed, index, crc32(f"{recipe.anatomy} {purpose}".encode())]
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(words)))


@lru_cache(maxsize=2)  # the modalities of a subject are asked for together; a subject takes about 60 bytes a voxel
def _subject(recipe: Recipe, index: int) -> _Subject:
    affine = _affine(recipe, _stream(recipe, index, "grid"))
    points = _posed(recipe, affine, _stream(recipe, index, "pose"))
    canvas = Canvas(recipe.size, float(np.cbrt(np.prod(recipe.spacing_mm))))
    _ANATOMIES[recipe.anatomy].draw(canvas, points, _stream(recipe, index, "anatomy"), lesions=recipe.lesions)
    return _Subject(MappingProxyType(canvas.fractions), canvas.labels, points, affine)


def _affine(recipe: Recipe, rng: np.random.Generator) -> NDArray[np.float64]:
    """Voxel to world in mm: a little oblique, nearest to RAS, about a centre that is not the origin."""
    a, b, c = np.deg2rad(rng.uniform(-_TURN_DEGREES, _TURN_DEGREES, size=3))
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    about_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = about_z @ about_y @ about_x * recipe.spacing_mm
    middle = (np.asarray(recipe.size) - 1) / 2
    affine[:3, 3] = rng.uniform(-_SHIFT_MM, _SHIFT_MM, size=3) - affine[:3, :3] @ middle
    return affine


def _posed(recipe: Recipe, affine: NDArray[np.float64], rng: np.random.Generator) -> Points:
    """Each voxel's position in the average anatomy's frame: moved, scaled and smoothly bent for this subject."""
    middle = (np.asarray(recipe.size) - 1) / 2
    steps = np.indices(recipe.size, dtype=np.float32) - middle.astype(np.float32).reshape(3, 1, 1, 1)
    from_centre = np.tensordot(affine[:3, :3].astype(np.float32), steps, axes=1)
    scale = np.clip(rng.normal(1, 0.03), 0.94, 1.06) * np.clip(rng.normal(1, 0.02, size=3), 0.96, 1.04)
    shift = rng.uniform(-_OFF_CENTRE_MM, _OFF_CENTRE_MM, size=3)
    centre = as_column(_ANATOMIES[recipe.anatomy].CENTRE_MM)
    points = (from_centre - as_column(shift)) / as_column(scale) + centre
    size = min(field_of_view_mm(recipe.anatomy))
    bends = [Waves(rng, 6, (0.4 * size, 0.9 * size)) for _ in range(3)]
    return np.asarray(points + np.float32(0.012 * size) * np.stack([bend(points) for bend in bends]))
