"""The report of a run folder: gathers what the run left behind and writes report.html."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import yaml

from medtrans.data.anonymize import WITHHELD, shareable_config
from medtrans.data.cohort import read_case_table
from medtrans.errors import ConfigError
from medtrans.evaluation.pictures import ROLES, kept_volumes
from medtrans.evaluation.scores import read_metrics_csv
from medtrans.report.methods import data_rows, methods_paragraph, references
from medtrans.report.page import render
from medtrans.report.viewer import ViewedCase
from medtrans.runs import checkpoint
from medtrans.runs.folder import RunFolder
from medtrans.training.costs import costs_text, read_costs
from medtrans.utils.files import write_text
from medtrans.utils.messages import number

__all__ = ["report_facts", "shown_cases", "write_report"]


_RANKS = ("worst", "median", "best")


def write_report(folder: RunFolder, *, viewer: Literal["none", "inline"] | None = None) -> Path:
    """Write `report.html` from the run's config, scores, pictures and curves: no path, and unless the config says
    `names: true` no case but by its number.

    Args:
        folder: of the run.
        viewer: "inline" carries an interactive viewer of the cases in the pictures; None does as the page did that is
            there, if it can.

    Raises:
        ConfigError: the run has not been evaluated; or a viewer is asked for, and the run kept no volumes for it.
    """
    config = folder.read_config()
    summary = folder.read_json(folder.summary)
    rows = read_metrics_csv(folder.metrics)
    shown = {row.label: row.case if config["names"] else row.label for row in rows}
    shared = shareable_config(config)
    pictures = _pictures(folder, shown, summary["metrics"], {row.label: row.values for row in rows})
    if viewer is None:
        viewer = "inline" if _had_viewer(folder) else "none"
    newest = checkpoint.newest(folder.checkpoints)
    state: Mapping[str, Any] = newest.state() if newest else {}
    curves: Mapping[str, Any] = state["history"]["curves"] if newest else {}
    cases = read_case_table(folder.cases)
    page = render(
        title=f"{', '.join(config['source'])} to {', '.join(config['target'])}",
        command=" \\\n  ".join(["medtrans run config.yaml", *_kept_back(shared)]),
        config_text=yaml.safe_dump(shared, sort_keys=False, allow_unicode=True, width=120),
        environment=folder.read_json(folder.environment),
        summary=summary,
        rows=[{"label": shown[row.label], **row.values} for row in rows],
        pictures=pictures,
        curves={name: [(float(step), float(value)) for step, value in points] for name, points in curves.items()},
        facts=report_facts(folder, config),
        data=data_rows(shared, cases, state.get("fingerprint"), summary.get("scored_in", {})),
        methods=methods_paragraph(shared, cases, summary, _weights(folder, config)),
        cited=references(shared),
        errors=folder.read_json(folder.errors) if folder.errors.is_file() else {},
        files=[_files(folder, path) for *_, path in shown_cases(folder)],
        faithfulness=folder.read_json(folder.faithfulness) if folder.faithfulness.is_file() else None,
        downstream=folder.read_json(folder.downstream) if folder.downstream.is_file() else None,
        viewed=_viewed(folder, config, shown) if viewer == "inline" else (),
    )
    write_text(folder.report, page)
    return folder.report


def report_facts(folder: RunFolder, config: Mapping[str, Any]) -> dict[str, str]:
    """What was run, in a few lines.

    Args:
        folder: of the run.
        config: the run's, as plain data.
    """
    train = config["train"]
    known = read_case_table(folder.cases)
    subjects = {split: len({one.subject for one in known if one.split == split}) for split in _DOING}
    weights, patches = _weights(folder, config), train["batch"] * train["accumulate"]
    discriminator = config["discriminator"]
    costs = costs_text(read_costs(folder.costs))
    return {
        "Data": f"{_name(config['dataset'])}: "
        + ", ".join(f"{count} to {_DOING[split]}" for split, count in subjects.items() if count)
        + " (subjects, none of them twice)",
        "Networks": _name(config["generator"])
        + (f" against {_name(discriminator)}" if discriminator else ", no discriminator")
        + f", trained by {_name(config['method'])}",
        "Losses": ", ".join(
            f"{name} × {loss['weight']:g}" if isinstance(loss["weight"], int | float) else f"{name} (ramped)"
            for name, loss in config["losses"].items()
        ),
        "Training": f"{train['steps']:,} steps of {patches} patch{'' if patches == 1 else 'es'}"
        + (f"; {weights}" if weights else ""),
        **({"Costs": costs} if costs else {}),
        **_when(folder),
    }


def _weights(folder: RunFolder, config: Mapping[str, Any]) -> str:
    """Which weights were tested; "" without any."""
    chosen = checkpoint.best(folder.checkpoints)
    used = chosen or checkpoint.newest(folder.checkpoints)
    if used is None:
        return ""
    best = config["train"]["best"]
    return f"weights of step {used.step:,}" + (f", the best {best} in validation" if chosen and best else "")


def _had_viewer(folder: RunFolder) -> bool:
    """Whether the page that is there carries a viewer, and the volumes for it are still kept."""
    asked = folder.report.is_file() and '<section id="viewer">' in folder.report.read_text("utf-8", "replace")
    return asked and any(kept_volumes(folder.pictures, path.stem) for *_, path in shown_cases(folder))


def _when(folder: RunFolder) -> dict[str, str]:
    """When the run began, how long it took from its first to its last line in the log, and the version that ran it."""
    version = folder.read_json(folder.environment).get("medtrans", "")
    log = folder.log.read_text("utf-8", "replace") if folder.log.is_file() else ""
    times = re.findall(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", log, re.MULTILINE)
    facts = {"Version": f"medtrans {version}"}
    if times:
        began, ended = (datetime.fromisoformat(times[place]) for place in (0, -1))
        facts["Made"] = f"{began:%Y-%m-%d}; {ended - began} h from the log's first line to its last"
    return facts


_DOING = {"train": "train on", "validation": "choose the weights by", "test": "test"}


def _name(slot: Mapping[str, Any]) -> str:
    return str(slot["name"]).removeprefix("builtin:")


def shown_cases(folder: RunFolder) -> list[tuple[str, str, Path]]:
    """(rank, label, picture) of each case that a run keeps a picture of."""
    return [
        (rank, path.stem.removeprefix(f"{rank}_"), path)
        for rank in _RANKS
        for path in sorted(folder.pictures.glob(f"{rank}_*.png"))
    ]


def _pictures(
    folder: RunFolder,
    shown: Mapping[str, str],
    metrics: Mapping[str, Mapping[str, Any]],
    scores: Mapping[str, Mapping[str, float]],
) -> list[tuple[str, str, bytes]]:
    """Each shown case's name, why it is shown and its picture; cases are ranked by the first metric."""
    name = next(iter(metrics))
    return [
        (
            shown[label],
            f"{rank} test case by {name}: {number(scores[label][name])} {metrics[name]['unit']}".rstrip(),
            path.read_bytes(),
        )
        for rank, label, path in shown_cases(folder)
    ]


def _files(folder: RunFolder, picture: Path) -> dict[str, str]:
    """What the run keeps of a shown case under its number, by what it is, relative to the page."""
    volumes = {role: picture.with_name(f"{picture.stem}_{role}.nii.gz") for role in ROLES}
    there = {"picture": picture} | {role: path for role, path in volumes.items() if path.is_file()}
    return {name: path.relative_to(folder.path).as_posix() for name, path in there.items()}


def _kept_back(config: Mapping[str, Any], prefix: str = "") -> list[str]:
    """What must be given anew to run a shareable config: overrides with a word in capitals for each value kept back."""
    overrides = []
    for key, value in config.items():
        if isinstance(value, Mapping):
            overrides += _kept_back(value, f"{prefix}{key}.")
        elif value == WITHHELD or (isinstance(value, list) and WITHHELD in value):
            # Quoted for the shell, and again for YAML, in which {subject}/t1.nii.gz would be no text.
            overrides.append(f"'{prefix}{key}=\"{str(key).upper()}\"'")
    return overrides


def _viewed(folder: RunFolder, config: Mapping[str, Any], shown: Mapping[str, str]) -> list[ViewedCase]:
    sidecars = (json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.predictions.glob("*.json")))
    unit = next((str(facts.get("unit", "")) for facts in sidecars if facts.get("target") == config["target"][0]), "")
    cases = [
        ViewedCase(shown[label], f"{rank} test case", volumes, unit)
        for rank, label, path in shown_cases(folder)
        if (volumes := kept_volumes(folder.pictures, path.stem))
    ]
    if not cases:
        raise ConfigError(
            f"{folder.path}: has no volumes for a viewer; medtrans evaluate {folder.path} keeps them, then report again"
        )
    return cases
