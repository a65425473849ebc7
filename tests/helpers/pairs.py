"""Small registered pairs as files: smooth random tissue in two contrasts, a folder for each subject."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from medtrans.volume import Volume, write

__all__ = ["config_of", "contrasts", "write_pairs"]

SIDE = 20


def contrasts(number: int, side: int = SIDE, spacing_mm: float = 3.0) -> dict[str, Volume]:
    """The t1 and t2 of one subject, on one grid."""
    rng = np.random.default_rng(number)
    tissue = ndimage.gaussian_filter(rng.standard_normal((side,) * 3), 2.0)
    tissue = (tissue - tissue.min()) / np.ptp(tissue)
    middle = (np.indices((side,) * 3) - (side - 1) / 2) / (side / 2)
    head = (middle**2).sum(axis=0) < 0.8
    affine = np.diag((spacing_mm, spacing_mm, spacing_mm, 1.0))
    affine[:3, 3] = -spacing_mm * (side - 1) / 2
    noise = [rng.normal(0, 4, (side,) * 3) for _ in range(2)]
    t1 = head * (200 + 700 * tissue) + noise[0]
    t2 = head * (900 - 800 * (tissue - 0.3) ** 2 - 400 * tissue) + noise[1]
    return {name: Volume(np.rint(one).astype(np.int16), affine) for name, one in (("t1", t1), ("t2", t2))}


def write_pairs(root: Path, subjects: int = 6, side: int = SIDE) -> Path:
    """`root/s01/t1.nii.gz`, `root/s01/t2.nii.gz`, ..."""
    for number in range(1, subjects + 1):
        folder = root / f"s{number:02d}"
        folder.mkdir(parents=True)
        for name, volume in contrasts(number, side).items():
            write(volume, folder / f"{name}.nii.gz")
    return root


def config_of(root: Path, output: Path) -> dict[str, Any]:
    """A run on such pairs, with networks that take a second."""
    return {
        "output_dir": str(output),
        "dataset": {
            "name": "paired_folders",
            "options": {"root": str(root), "images": {"t1": "{subject}/t1.nii.gz", "t2": "{subject}/t2.nii.gz"}},
        },
        "source": ["t1"],
        "target": ["t2"],
        "preprocess": {"intensity": {"t1": {"name": "percentile"}, "t2": {"name": "percentile"}}},
        "patch": {"size": [16, 16, 16]},
        "generator": {"name": "mdaunet", "options": {"preset": "fast", "width": 4, "growth": [4, 4]}},
        "discriminator": None,
        "losses": {"l1": {}},
        "train": {"steps": 1, "batch": 1, "workers": 0},
    }
