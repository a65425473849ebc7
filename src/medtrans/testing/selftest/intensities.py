"""The check that Hounsfield units come back as they were."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import nibabel
import numpy as np

from medtrans.testing.selftest.identity import identity_translator
from medtrans.volume import Volume, write

__all__ = ["check"]

TOLERANCE_HU = 0.5
_LOW, _HIGH = -1024, 3071


def check(folder: Path) -> tuple[bool, str]:
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
