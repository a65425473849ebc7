"""What a resumed run may change: steps, workers, callbacks, intervals, and devices at an equal global batch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import yaml

from medtrans.config.diff import differences, lasting
from medtrans.config.experiment import Experiment
from medtrans.errors import ConfigError
from medtrans.runs import checkpoint
from medtrans.runs.folder import RunFolder

__all__ = ["config_hash", "facts_of", "refuse_other_config"]


_SHOWN = 5


def facts_of(experiment: Experiment, ranks: int) -> dict[str, Any]:
    """What a checkpoint must know of the config it was trained with, without any of its values.

    Args:
        experiment: the config.
        ranks: that train together.
    """
    train = experiment.config.train
    return {
        "global_batch": ranks * train.batch * train.accumulate,
        "config": {key: _digest(value) for key, value in lasting(experiment.saved()).items()},
    }


def config_hash(experiment: Experiment) -> str:
    """Of all that a resumed run must not change."""
    return hashlib.sha256(json.dumps(lasting(experiment.saved()), sort_keys=True).encode()).hexdigest()


def refuse_other_config(folder: RunFolder, experiment: Experiment, ranks: int) -> None:
    """Refuse to resume a run, or a checkpoint in its folder, that was trained with another config.

    Raises:
        ConfigError: names the first differences.
    """
    before = yaml.safe_load(folder.config.read_text(encoding="utf-8"))
    found = differences(before, experiment.saved())
    newest = checkpoint.newest(folder.checkpoints)
    if newest is not None and newest.facts:
        here = facts_of(experiment, ranks)
        told = {one.partition(":")[0] for one in found}
        other = [key for key in _other(newest.facts, here) if key not in told]
        found += [f"{key}: differs from what {newest.folder.name} was trained with" for key in other]
        there, now = newest.facts["global_batch"], here["global_batch"]
        # The same samples in each step: then only how they are shared out among devices has changed.
        found = [one for one in found if not one.startswith("train.batch:")]
        if there != now:
            found.append(f"global batch (devices x train.batch x train.accumulate): {there} -> {now}")
    if found:
        raise ConfigError(
            f"{folder.config}: the run to resume had another config ({len(found)} differences):",
            *(f"  {one}" for one in found[:_SHOWN]),
            f"resume with its own config, medtrans run {folder.config} --resume, or choose another output_dir",
        )


def _other(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    old, new = dict(before["config"]), dict(after["config"])
    return [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
