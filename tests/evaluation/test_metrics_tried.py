"""Every metric is asked before the first step whether it can score the cases there are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import medtrans
from medtrans.errors import MedtransError
from medtrans.volume import Volume, read, write
from tests.helpers.pairs import config_of, write_pairs

PLUGIN = """
from medtrans import Component, Metric, hookimpl

PLUGIN_API = "1.0"


class Own(Metric):
    unit, higher_is_better, definition = "", True, "somebody's own"

    def __init__(self, *, kind: str = "fine") -> None:
        self.kind = kind

    def __call__(self, prediction, target, mask, spacing_mm):
        if self.kind == "raises":
            raise ValueError("sides must be 32")
        return {"text": "much", "undefined": float("nan")}.get(self.kind, 1.0)


@hookimpl
def medtrans_metrics():
    return [Component("own", Own)]
"""


def thin(root: Path) -> Path:
    """Scans of six slices."""
    for path in root.rglob("*.nii.gz"):
        image = read(path)
        write(Volume(np.ascontiguousarray(image.data[..., :6]), image.affine), path)
    return root


def config(tmp_path: Path, metrics: dict[str, Any]) -> dict[str, Any]:
    found = config_of(write_pairs(tmp_path / "data"), tmp_path / "run")
    train = {**found["train"], "best": next(iter(metrics))}
    return found | {"metrics": metrics, "train": train, "faithfulness": {"lesion_cases": 0}}


def test_a_window_larger_than_the_thinnest_case_is_refused_before_the_first_step(tmp_path: Path) -> None:
    given = config(tmp_path, {"psnr": {}, "ssim": {}})
    thin(tmp_path / "data")
    report = medtrans.check(given)
    assert any("metrics.ssim" in fault for fault in report.faults)
    assert not report.ready
    with pytest.raises(MedtransError, match=r"metrics\.ssim"):
        medtrans.run(given)
    assert not list((tmp_path / "run").rglob("step_*"))
    assert medtrans.check(given, ["metrics.ssim=null"]).ready


@pytest.mark.parametrize("kind", ["raises", "text"])
def test_a_metric_of_anybody_that_fails_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    plugin = tmp_path / "own.py"
    plugin.write_text(PLUGIN)
    given = config(tmp_path, {"psnr": {}, "own": {"name": "own:own", "options": {"kind": kind}}})
    assert sum("metrics.own" in fault for fault in medtrans.check(given, plugins=[plugin]).faults) == 1
    with pytest.raises(MedtransError, match=r"metrics\.own"):
        medtrans.run(given, plugins=[plugin])
    assert not list((tmp_path / "run").rglob("step_*"))


def test_a_metric_that_is_undefined_is_told_and_a_run_ends_well_all_the_same(tmp_path: Path) -> None:
    plugin = tmp_path / "own.py"
    plugin.write_text(PLUGIN)
    given = config(tmp_path, {"own": {"name": "own:own", "options": {"kind": "undefined"}}, "psnr": {}})
    report = medtrans.check(given, plugins=[plugin])
    assert report.ready
    assert sum("own is undefined" in warning for warning in report.warnings) == 1
    folder = medtrans.run(given, plugins=[plugin])
    assert any("own is undefined" in warning for warning in json.loads(folder.summary.read_text())["warnings"])
