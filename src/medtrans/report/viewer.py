"""The interactive viewer of a report: its script, and volumes as a page carries them."""

from __future__ import annotations

import base64
import gzip
import hashlib
from collections.abc import Mapping
from importlib.resources import files
from typing import Any, NamedTuple

import numpy as np

from medtrans.evaluation.pictures import quantised
from medtrans.volume import Volume

__all__ = ["ViewedCase", "embedded", "script_hash", "viewer_script"]


class ViewedCase(NamedTuple):
    """A case for the interactive viewer.

    Args:
        label: what it is called.
        caption: why it is shown.
        volumes: "source", "prediction" and "target" on one grid, from `viewed_cases.for_viewing`.
        unit: of prediction and target.
    """

    label: str
    caption: str
    volumes: Mapping[str, Volume]
    unit: str


def viewer_script() -> str:
    """The viewer as JavaScript that a page can hold."""
    return (files("medtrans.report") / "templates" / "viewer.js").read_text(encoding="utf-8")


def script_hash(script: str) -> str:
    """The script's name in a content security policy: the page runs this one and no other."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")


def embedded(case: ViewedCase) -> dict[str, Any]:
    """A case as plain data for `viewer.js`, with the contrasts it is first shown in.

    Prediction and target share one, from the target's 0.5th to its 99.5th percentile. The error is shown up to its
    99.5th percentile.
    """
    source, prediction, target = (case.volumes[role].data for role in ("source", "prediction", "target"))
    error = np.abs(prediction - target)
    strongest = float(np.percentile(error[error > 0], 99.5)) if error.any() else 1.0
    return {
        "unit": case.unit,
        "shape": target.shape,
        "affine": case.volumes["target"].affine.tolist(),
        "volumes": {role: _packed(volume.data) for role, volume in case.volumes.items()},
        "contrasts": {
            "source": {"range": _range(source), "shown": _window(source)},
            "target": {"range": _range(prediction, target), "shown": _window(target)},
            "error": {"range": [0.0, float(error.max()) or 1.0], "shown": [-strongest, strongest]},
        },
    }


def _packed(data: np.ndarray) -> dict[str, Any]:
    """Levels, the first axis fastest: all low bytes, then all high bytes, which gzip packs a fifth smaller."""
    levels, low, step = quantised(data)
    halves = b"".join(half.astype(np.uint8).tobytes("F") for half in (levels & 255, levels >> 8))
    packed = gzip.compress(halves, compresslevel=6, mtime=0)
    return {"low": low, "step": step, "data": base64.b64encode(packed).decode("ascii")}


def _range(*volumes: np.ndarray) -> list[float]:
    low, high = min(float(data.min()) for data in volumes), max(float(data.max()) for data in volumes)
    return [low, high if high > low else low + 1.0]


def _window(data: np.ndarray) -> list[float]:
    low, high = (float(limit) for limit in np.percentile(data, (0.5, 99.5)))
    return [low, high] if high > low else _range(data)
