"""The tissues of the phantoms: their labels, and what MR and CT see of each."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["PROPERTIES", "Fractions", "Properties", "Tissue"]


class Tissue(IntEnum):
    """The values of a phantom's `labels` image."""

    AIR = 0
    """Around the body; the only tissue outside the mask."""
    SKIN = 1
    FAT = 2
    MUSCLE = 3
    BONE = 4
    """Cortical bone."""
    MARROW = 5
    CSF = 6
    GREY = 7
    WHITE = 8
    BLOOD = 9
    """Large vessels and dural sinuses."""
    MUCOSA = 10
    EYE = 11
    """The vitreous body."""
    GAS = 12
    """Air inside the body: sinuses, airway, bowel."""
    URINE = 13
    BOWEL = 14
    """The wall of the bowel."""
    CONTENT = 15
    """What fills the bowel beside gas."""
    GLAND = 16
    """Parotid glands, prostate."""
    LESION = 17


Fractions: TypeAlias = Mapping[Tissue, NDArray[np.float32]]
"""The share (i, j, k) of each tissue in each voxel."""


class Properties(NamedTuple):
    """One tissue as the scanners see it."""

    t1_ms: float
    t2_ms: float
    proton_density: float
    """Relative to water."""
    hu: float
    contrast_mmol: float
    """Concentration of contrast agent that the tissue takes up, in mmol/l."""


PROPERTIES: Mapping[Tissue, Properties] = MappingProxyType(
    {
        Tissue.AIR: Properties(1.0, 1.0, 0.0, -1000.0, 0.0),
        Tissue.SKIN: Properties(890.0, 35.0, 0.80, 20.0, 0.15),
        Tissue.FAT: Properties(350.0, 70.0, 1.00, -95.0, 0.0),
        Tissue.MUSCLE: Properties(900.0, 47.0, 1.00, 55.0, 0.05),
        Tissue.BONE: Properties(250.0, 0.5, 0.20, 1200.0, 0.0),
        Tissue.MARROW: Properties(549.0, 49.0, 0.90, 220.0, 0.05),
        Tissue.CSF: Properties(2569.0, 329.0, 1.00, 8.0, 0.0),
        Tissue.GREY: Properties(833.0, 83.0, 0.86, 37.0, 0.0),
        Tissue.WHITE: Properties(500.0, 70.0, 0.77, 28.0, 0.0),
        Tissue.BLOOD: Properties(1441.0, 290.0, 0.90, 45.0, 1.0),
        Tissue.MUCOSA: Properties(1100.0, 110.0, 0.95, 40.0, 0.4),
        Tissue.EYE: Properties(3000.0, 400.0, 1.00, 8.0, 0.0),
        Tissue.GAS: Properties(1.0, 1.0, 0.0, -1000.0, 0.0),
        Tissue.URINE: Properties(2600.0, 350.0, 1.00, 5.0, 0.0),
        Tissue.BOWEL: Properties(900.0, 70.0, 0.90, 42.0, 0.3),
        Tissue.CONTENT: Properties(1000.0, 60.0, 0.70, 30.0, 0.0),
        Tissue.GLAND: Properties(1317.0, 88.0, 0.90, 40.0, 0.15),
        Tissue.LESION: Properties(752.0, 237.0, 0.76, 20.0, 0.5),
    }
)
"""At 1.5 T and 120 kVp, before each subject's own small deviation.

Source: T1, T2 and proton density of CSF, grey and white matter, fat, muscle and lesion are BrainWeb's (Kwan, Evans and
Pike, IEEE Trans. Med. Imaging 18, 1999; brainweb.bic.mni.mcgill.ca); blood's T1 and T2 follow Stanisz et al., Magn.
Reson. Med. 54, 2005; marrow's and gland's (prostate) follow de Bazelaire et al., Radiology 230, 2004. BrainWeb's skin
has the values of CSF; here it has those of the dermis. The remaining numbers are round ones of a plausible size.
"""
