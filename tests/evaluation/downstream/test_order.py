"""Better synthetic images make better segmenters: real ones before a translator's, and those before blurred ones.

A translator trained briefly by squared error hedges: its lesions are paler than real ones, so that a segmenter learns a
border that is not the real images'. Blurred, small lesions are all but gone from the images it learns from.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

import medtrans
from medtrans.config.loading import load_config
from medtrans.data.datamodule import load_cohort
from medtrans.evaluation.downstream.experiment import plan_downstream, run_downstream
from medtrans.inference.translator import Translator

PLAIN = '''
from torch import nn

from medtrans import Component, hookimpl

PLUGIN_API = "1.0"


class Plain(nn.Module):
    """Few convolutions at full resolution, quick to train.

    Args:
        width: features between.
    """

    def __init__(self, in_channels: int, out_channels: int, *, width: int = 8) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv3d(in_channels, width, 3, padding=1), nn.LeakyReLU(0.1),
            nn.Conv3d(width, width, 3, padding=1), nn.LeakyReLU(0.1),
            nn.Conv3d(width, out_channels, 1),
        )

    def forward(self, source):
        return self.body(source)


@hookimpl
def medtrans_generators():
    return [Component("plain", Plain)]
'''
SIZE = [28, 32, 20]
HEADS = {"size": SIZE, "spacing_mm": [5.0, 5.0, 5.0]}  # the brain alone, at voxels of which a lesion has many
MODALITIES = ["t1", "t2", "t1ce", "flair"]
SIGMA = 1.5  # voxels
MARGIN = 0.02


class Blurred(Translator):
    """The same translator, whose predictions are blurred."""

    def predict(self, *arguments: Any, **options: Any) -> np.ndarray:
        return ndimage.gaussian_filter(super().predict(*arguments, **options), (0, SIGMA, SIGMA, SIGMA))


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_segmenters_of_real_images_beat_those_of_synthetic_ones_which_beat_those_of_blurred_ones(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    subjects = request.config.getoption("--downstream-subjects")
    plugin = tmp_path / "plain.py"
    plugin.write_text(PLAIN)
    run = medtrans.run(
        {
            "output_dir": str(tmp_path / "run"),
            "dataset": {"name": "phantom", "options": {"subjects": subjects, "lesions": True} | HEADS},
            "source": MODALITIES[:3],
            "target": MODALITIES[3:],
            "split": {"by": "fractions", "train": 0.25, "validation": 0.04, "test": 0.71},
            "preprocess": {"crop": "none", "intensity": {name: {"name": "percentile"} for name in MODALITIES}},
            "patch": {"size": [16, 16, 16], "foreground": 0.1},
            "generator": {"name": "plain:plain", "options": {"width": 16}},
            "discriminator": None,
            "losses": {"l2": {}},
            "callbacks": {},
            "metrics": {"psnr": {}},
            "train": {
                "steps": 500, "batch": 4, "workers": 0, "validate_every": 500, "checkpoint_every": 500,
                "optimizer": {"name": "adam", "options": {"lr": 5e-3}},
            },
            "inference": {"window": SIZE},
            "faithfulness": {"lesion_cases": 0},
        },
        plugins=[plugin],
    )  # fmt: skip
    segmenter = {
        "patch": {"size": [16, 16, 16], "foreground": 0.01},
        "generator": {"name": "plain:plain"},
        "callbacks": {},
        "inference": {"window": SIZE},
        "train": {
            "steps": 500, "batch": 4, "checkpoint_every": 500,
            "optimizer": {"name": "adamw", "options": {"lr": 5e-3}},
        },
    }  # fmt: skip
    settings = {"labels": {"lesion": [17]}, "arms": ["tstr"], "seeds": 3, "segmenter": segmenter}
    experiment = load_config([run.config, {"downstream": settings}], plugins=[plugin])
    assessment = plan_downstream(experiment, load_cohort(experiment)[0], run.path, plugins=[plugin])
    sharp = medtrans.load(run.path, plugins=[plugin])
    blurred = Blurred(sharp.experiment, sharp.method, sharp.preprocessing, sharp.target_numbers)
    found = run_downstream(assessment, sharp)["arms"]
    of_blurred = run_downstream(assessment, blurred)["arms"]  # segmenters of real images are kept
    assert of_blurred["trtr"] == found["trtr"]
    scores = {
        arm: of["dice_lesion"]
        for arm, of in (("trtr", found["trtr"]), ("tstr", found["tstr"]), ("tstr, blurred", of_blurred["tstr"]))
    }
    trtr, tstr, tstr_blurred = (of["median_of_seeds"] for of in scores.values())
    assert trtr >= tstr + MARGIN, scores
    assert tstr >= tstr_blurred + MARGIN, scores
