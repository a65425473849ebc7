"""Tests of the benchmarks: what they report holds together; speed itself is not tested."""

from __future__ import annotations

from typing import Any

GAN: dict[str, Any] = {
    "output_dir": "unused",
    "dataset": {"name": "phantom", "options": {"subjects": 4, "size": [20, 20, 20]}},
    "source": ["t1"],
    "target": ["t2"],
    "split": {"by": "fractions", "train": 0.5, "validation": 0.25, "test": 0.25},
    "preprocess": {"intensity": {"t1": {"name": "percentile"}, "t2": {"name": "percentile"}}},
    "patch": {"size": [16, 16, 16]},
    "generator": {"name": "mdaunet", "options": {"preset": "fast", "width": 4, "growth": [4, 4]}},
    "discriminator": {"name": "multires_unet", "options": {"width": 2, "convs": 1}},
    "losses": {
        "l1": {},
        "relativistic": {"weight": 1e-4},
        "perceptual_25d": {"options": {"weights": "random", "taps": ["relu1_2"]}},
    },
    "train": {"steps": 4, "batch": 1, "workers": 0},
    "inference": {"overlap": None, "batch": 4},
}
"""A tiny system with an adversary and a perceptual loss."""
