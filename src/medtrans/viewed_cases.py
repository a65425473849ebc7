"""Owns the volumes that a run keeps of its shown cases, so that a report can carry a viewer without the data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from medtrans.atomic import complete_file
from medtrans.cohort import Member, load_image
from medtrans.viewer import carried
from medtrans.volume import ReadingRules, Volume

__all__ = ["ROLES", "keep_volumes", "kept_volumes"]

ROLES = ("source", "prediction", "target")


def keep_volumes(
    folder: Path, stem: str, member: Member, predicted: Volume, *, source: str, target: str, rules: ReadingRules
) -> None:
    """Keep small copies of a case's source, prediction and target, as `<stem>_<role>.nii.gz`.

    Prediction and target share one grey scale: from the target's 0.5th to its 99.5th percentile.

    Args:
        folder: of the run's pictures.
        stem: such as "worst_case_0007".
        member: the case.
        predicted: its prediction.
        source: the modality that is shown as source.
        target: the modality that was predicted.
        rules: how images are read that would otherwise be refused.
    """
    volumes = {
        "source": load_image(member.case, source, rules),
        "prediction": predicted,
        "target": load_image(member.case, target, rules),
    }
    limits = {"source": _limits(volumes["source"]), "target": _limits(volumes["target"])}
    for role, volume in volumes.items():
        with complete_file(folder / f"{stem}_{role}.nii.gz") as temporary:
            temporary.write_bytes(carried(volume, limits["source" if role == "source" else "target"]))


def kept_volumes(folder: Path, stem: str) -> Mapping[str, bytes]:
    """What `keep_volumes` kept, by role; empty where it kept nothing."""
    paths = {role: folder / f"{stem}_{role}.nii.gz" for role in ROLES}
    return {role: path.read_bytes() for role, path in paths.items() if path.is_file()}


def _limits(volume: Volume) -> tuple[float, float]:
    low, high = (float(limit) for limit in np.percentile(volume.data, (0.5, 99.5)))
    return low, high if high > low else low + 1.0
