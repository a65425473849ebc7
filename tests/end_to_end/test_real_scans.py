"""Files of real anatomy, oblique and in six orientations, from disk to scores and predictions on their own grids."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import product
from pathlib import Path

import nibabel
import numpy as np
import pytest

import medtrans

SCANS = Path(__file__).parents[2] / "scripts" / "real_scans.py"
TOLERANCE_MM = 1e-4
pytestmark = pytest.mark.soak


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cohort that CONTRIBUTING.md's script writes, at 3 mm.

    The script runs in a process of its own: nilearn's dependencies are not ours to keep free of warnings.
    """
    folder = tmp_path_factory.mktemp("real") / "scans"
    subprocess.run([sys.executable, str(SCANS), str(folder), "--spacing-mm", "3"], check=True)
    return folder


def corners_mm(image: nibabel.Nifti1Image) -> np.ndarray:
    """World coordinates of the centres of the eight outermost voxels."""
    ends = [(0, side - 1) for side in image.shape[:3]]
    return nibabel.affines.apply_affine(image.affine, np.array(list(product(*ends))))


@pytest.mark.timeout(1200)
def test_a_run_beats_a_linear_fit_and_keeps_every_grid(scans: Path, tmp_path: Path) -> None:
    folder = medtrans.run(
        SCANS.with_suffix(".yaml"),
        [f"dataset.options.root={scans}", f"output_dir={tmp_path / 'run'}", "preprocess.spacing_mm=[3.0, 3.0, 3.0]"],
    )

    summary = json.loads(folder.summary.read_text(encoding="utf-8"))
    model, linear = summary["metrics"], summary["baselines"]["source_linear"]
    assert summary["cases"] == 2
    assert model["mae"]["mean"] < linear["mae"]["mean"]
    assert model["ssim"]["mean"] > linear["ssim"]["mean"]

    predictions = sorted(folder.predictions.glob("*.nii.gz"))
    assert len(predictions) == 2
    for path in predictions:
        subject = path.name.removesuffix("_t2.nii.gz")
        predicted = nibabel.load(path)
        source = nibabel.load(scans / subject / f"{subject}_T1w.nii.gz")
        assert predicted.shape == source.shape
        assert np.abs(corners_mm(predicted) - corners_mm(source)).max() < TOLERANCE_MM
        assert np.isfinite(predicted.get_fdata()).all()
