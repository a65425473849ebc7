"""Owns the config of a segmenter: what the run's assessment asks for, as a config of the same engine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medtrans.config import Experiment, load_config
from medtrans.errors import ConfigError
from medtrans.seeds import derived_seed
from medtrans.settings import DownstreamSettings

__all__ = ["assessed_image", "segmenter_experiment"]

_OURS = (
    "output_dir", "seed", "names", "dataset", "source", "target", "split", "reading", "method", "discriminator",
    "metrics", "downstream", "versions",
)  # fmt: skip


def assessed_image(experiment: Experiment, settings: DownstreamSettings) -> str:
    """The target whose synthetic images are assessed.

    Raises:
        ConfigError: the run has no such target.
    """
    targets = experiment.config.target
    image = settings.image or targets[0]
    if image not in targets:
        raise ConfigError(f"downstream.image: the run translates to {', '.join(targets)}, found '{image}'; name one")
    return image


def segmenter_experiment(
    experiment: Experiment, settings: DownstreamSettings, *, seed: int, folder: Path, plugins: Sequence[Path]
) -> Experiment:
    """The checked config of one segmenter.

    Spacing, crop, the image's scaling, patches, batch, precision, devices, workers and overlap are the run's own; it
    trains a plain U-Net by Dice and cross-entropy for 2000 steps, and its last weights count. `downstream.segmenter`
    changes any of it.

    Args:
        experiment: the run's.
        settings: of the assessment.
        seed: the number of the repetition, from 0.
        folder: of the segmenter.
        plugins: the single-file plugins the run was started with.

    Raises:
        ConfigError: `downstream.segmenter` sets what the assessment itself sets, or is no config.
    """
    taken = [key for key in settings.segmenter if key in _OURS]
    if taken:
        raise ConfigError(
            *(f"downstream.segmenter.{key}: is set by the assessment itself; take it out" for key in taken)
        )
    saved, image = experiment.saved(), assessed_image(experiment, settings)
    labels = {"name": "labels", "options": {"classes": {name: list(of) for name, of in settings.labels.items()}}}
    base: dict[str, Any] = {
        "output_dir": str(folder),
        "seed": derived_seed(saved["seed"], "segmenter", seed),
        "names": saved["names"],
        "dataset": saved["dataset"],
        "source": [image],
        "target": ["labels"],
        "reading": saved["reading"],
        "preprocess": {
            "spacing_mm": saved["preprocess"]["spacing_mm"],
            "crop": saved["preprocess"]["crop"],
            "intensity": {image: saved["preprocess"]["intensity"][image], "labels": labels},
        },
        "patch": saved["patch"],
        "method": {"name": "segmentation", "options": {"classes": len(settings.labels)}},
        "generator": {"name": "unet"},
        "discriminator": None,
        "losses": {"soft_dice": {}, "cross_entropy": {}},
        "metrics": {
            f"{metric}_{name}": {"name": metric, "options": {"label": of[0]}}
            for name, of in settings.labels.items()
            for metric in ("dice", "hd95")
        },
        "callbacks": {"progress": {}},
        "train": {
            **{name: saved["train"][name] for name in ("batch", "precision", "devices", "workers")},
            "steps": 2000,
            "optimizer": {"name": "adamw", "options": {"lr": 1e-3}},
            "best": None,
        },
        # Window and blending suit the translator's network; those who judge by one segmenter want it the same for all.
        "inference": {name: saved["inference"][name] for name in ("overlap", "batch")},
    }
    try:
        return load_config([base, settings.segmenter] if settings.segmenter else [base], plugins=plugins)
    except ConfigError as error:
        raise ConfigError(*(f"downstream.segmenter: {fault}" for fault in error.faults)) from error
