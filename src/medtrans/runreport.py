"""Owns the report of a run folder: gathers what the run left behind and writes report.html."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from medtrans import checkpoint
from medtrans.atomic import write_text
from medtrans.evaluation import read_metrics_csv
from medtrans.report import render
from medtrans.runfolder import RunFolder

__all__ = ["write_report"]

_RANKS = ("worst", "median", "best")


def write_report(folder: RunFolder) -> Path:
    """Write `report.html` from the run's config, scores, pictures and curves; case numbers only, and no path.

    Raises:
        ConfigError: the run has not been evaluated.
    """
    config = yaml.safe_load(folder.config.read_text(encoding="utf-8"))
    summary = folder.read_json(folder.summary)
    rows = read_metrics_csv(folder.metrics)
    newest = checkpoint.newest(folder.checkpoints)
    curves: Mapping[str, Any] = newest.state()["history"]["curves"] if newest else {}
    page = render(
        title=f"{', '.join(config['source'])} to {', '.join(config['target'])}",
        command="medtrans run config.yaml",
        config_text=_shareable(folder.config.read_text(encoding="utf-8")),
        environment=folder.read_json(folder.environment),
        summary=summary,
        rows=[{"label": row.label, **row.values} for row in rows],
        pictures=_pictures(folder),
        curves={name: [(float(step), float(value)) for step, value in points] for name, points in curves.items()},
    )
    write_text(folder.report, page)
    return folder.report


def _pictures(folder: RunFolder) -> list[tuple[str, str, bytes]]:
    return [
        (path.stem.removeprefix(f"{rank}_"), f"{rank} test case", path.read_bytes())
        for rank in _RANKS
        for path in sorted(folder.pictures.glob(f"{rank}_*.png"))
    ]


def _shareable(config_text: str) -> str:
    """The config with folders taken out of its absolute paths, since they may name people and places."""
    return re.sub(r"(?m)(?<=[\s'\"])/(?:[^\s'\"/]+/)+", ".../", config_text)
