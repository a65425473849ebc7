"""The phantom dataset: subjects drawn from a seed, on grids of their own, in every modality."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from medtrans import Case, Dataset
from medtrans.builtin.datasets.phantom.subject import MODALITIES, Image, Recipe, field_of_view_mm

__all__ = ["Phantom"]

Voxels: TypeAlias = Annotated[int, Field(ge=8)]
SideMm: TypeAlias = Annotated[float, Field(gt=0)]


class Phantom(Dataset):
    """Digital heads or pelves drawn from a seed: registered MR contrasts, CT, cone-beam CT, labels and a mask.

    Every case has `t1`, `t2`, `pd`, `flair`, `t1ce` (float32, arbitrary units of about 0 to 1000), `ct`, `cbct`
    (float32, HU), `labels` (uint8, `Tissue`) and `mask` (uint8, 1 in the body with all its cavities), on one grid that
    is a few degrees oblique. Volumes are computed when their image is asked for. The same options give the same bytes.

    Subjects differ in size, shape, folding, fat, sinuses, bowel, and a little in their tissues' relaxation and density;
    images of a subject differ in gain, bias field and noise. Left and right differ as in people.

    Labels: 0 air around, 1 skin, 2 fat, 3 muscle, 4 cortical bone, 5 marrow, 6 CSF, 7 grey matter, 8 white matter,
    9 blood, 10 mucosa, 11 vitreous body, 12 gas inside, 13 urine, 14 bowel wall, 15 bowel content, 16 gland, 17 lesion;
    each is the tissue at the voxel's centre.

    Source: relaxation times and proton densities are BrainWeb's conventional values at 1.5 T where it has the tissue
    (see `phantom/tissues.py`); contrasts follow the spin-echo, inversion-recovery and relaxivity equations. The anatomy
    is geometric and made up: it is for trying out methods, not for medical conclusions.

    Args:
        anatomy: "head" or "pelvis".
        subjects: how many there are, one case each.
        size: voxels along each axis (right, front, up).
        spacing_mm: voxel sides; null divides the field of view, 200 x 248 x 216 mm for a head and 400 x 272 x 240 mm
            for a pelvis, by the size.
        lesions: whether there are lesions, in the brain or in the bone marrow.
        seed: what everything is drawn from.
    """

    def __init__(
        self,
        *,
        anatomy: Literal["head", "pelvis"] = "head",
        subjects: Annotated[int, Field(gt=0)] = 12,
        size: tuple[Voxels, Voxels, Voxels] = (64, 64, 64),
        spacing_mm: tuple[SideMm, SideMm, SideMm] | None = None,
        lesions: bool = False,
        seed: Annotated[int, Field(ge=0)] = 0,
    ) -> None:
        if spacing_mm is None:
            view = field_of_view_mm(anatomy)
            spacing_mm = (view[0] / size[0], view[1] / size[1], view[2] / size[2])
        self._recipe = Recipe(anatomy, size, spacing_mm, lesions, seed)
        self._subjects = subjects

    def cases(self) -> Sequence[Case]:
        """All cases; their images are functions that draw when called."""
        return [self._case(index) for index in range(self._subjects)]

    def _case(self, index: int) -> Case:
        name = f"{self._recipe.anatomy}_{index + 1:03d}"
        images = {modality: Image(self._recipe, index, modality) for modality in MODALITIES}
        return Case(case=name, subject=name, images=images)
