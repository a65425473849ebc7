"""What a resumed run may change, and that all else is refused and named, also where only the checkpoint knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from medtrans import ConfigError, RunFolder
from medtrans.config.experiment import Experiment
from medtrans.config.loading import load_config
from medtrans.runs import checkpoint
from medtrans.runs.session import check_same_config, config_facts, config_hash
from medtrans.training.build import warn_of_jumps
from medtrans.training.state import TrainingState, restore_marks
from tests.runs.test_crashes import save


def begun(config: dict[str, Any], ranks: int = 1) -> RunFolder:
    """A run's folder with a checkpoint, as training leaves it."""
    experiment = load_config([config])
    folder = RunFolder(Path(config["output_dir"]))
    folder.checkpoints.mkdir(parents=True)
    folder.write_config(experiment.saved_text())
    facts = config_facts(experiment, ranks)
    checkpoint.save(folder.checkpoints, 4, {}, {}, config_hash=config_hash(experiment), keep=2, facts=facts)
    return folder


def changed(config: dict[str, Any], *overrides: str) -> Experiment:
    return load_config([config], overrides)


def test_steps_workers_intervals_and_callbacks_may_change(tiny: dict[str, Any]) -> None:
    train = [f"train.{one}" for one in ("steps=9", "workers=3", "validate_every=7", "checkpoint_every=7", "keep=5",
                                        "rank_timeout_s=5.0")]  # fmt: skip
    folder, other = begun(tiny), changed(tiny, *train, "callbacks.progress.name=progress", "names=true")
    check_same_config(folder, other, 1)
    assert config_hash(other) == config_hash(changed(tiny))


def test_anything_else_is_refused_and_named(tiny: dict[str, Any]) -> None:
    folder = begun(tiny)
    others = {"patch.per_volume=9": "patch.per_volume: 3 -> 9", "train.precision=64-true": "train.precision"}
    for several in ({"train.optimizer={name: sgd}": "train.optimizer.name", "seed=1": "seed: 0 -> 1"}, others):
        with pytest.raises(ConfigError) as caught:
            check_same_config(folder, changed(tiny, *several), 1)
        assert all(named in str(caught.value) for named in several.values())


def test_devices_may_change_where_the_global_batch_stays(tiny: dict[str, Any]) -> None:
    folder = begun(tiny, ranks=1)
    check_same_config(folder, changed(tiny, "train.devices=2", "train.batch=1"), 2)
    for overrides, ranks in ((("train.devices=2",), 2), (("train.batch=1",), 1), (("train.batch=4",), 1)):
        with pytest.raises(ConfigError, match=r"global batch .*: 2 ->"):
            check_same_config(folder, changed(tiny, *overrides), ranks)


def test_a_checkpoint_of_another_config_is_refused_though_the_runs_config_was_edited(tiny: dict[str, Any]) -> None:
    folder = begun(tiny)
    edited = yaml.safe_load(folder.config.read_text())
    edited["seed"] = 5
    folder.write_config(yaml.safe_dump(edited))
    with pytest.raises(ConfigError, match=r"seed: .*step_00000004"):
        check_same_config(folder, changed(tiny, "seed=5"), 1)
    (manifest,) = folder.checkpoints.glob("*/manifest.json")
    assert "phantom" not in manifest.read_text()  # it says nothing of the config's values
    assert str(folder.path) not in manifest.read_text()


@pytest.mark.parametrize(
    ("schedule", "factors"),
    [("linear", {"0", "0.5"}), ("cosine", {"0", "0.5"}), ("constant", set()), ("linear, options: {length: 3}", set())],
)
@pytest.mark.parametrize("recorded", [True, False], ids=["in the checkpoint", "in the config alone, as before"])
def test_a_learning_rate_that_jumps_is_told_under_both_lengths(
    schedule: str, factors: set[str], recorded: bool, tiny: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    own = (f"train.schedule={{name: {schedule}}}", "train.steps=4")
    experiment = changed(tiny, *own)
    folder = RunFolder(Path(tiny["output_dir"]))
    folder.checkpoints.mkdir(parents=True)
    folder.write_config(experiment.saved_text())
    facts = config_facts(experiment, 1) if recorded else {}
    if recorded:
        folder.write_config(changed(tiny, *own[:1], "train.steps=8").saved_text())
    checkpoint.save(folder.checkpoints, 4, {}, {}, config_hash="", keep=2, facts=facts)
    warn_of_jumps(folder, changed(tiny, *own[:1], "train.steps=8"), training_cases=3, ranks=1)
    told = {word.rstrip(".,") for word in caplog.text.split()}
    assert factors <= told
    assert ("train.steps:" in told) == bool(factors)


def test_marks_that_a_killed_process_had_no_time_for_are_made_up_for(tmp_path: Path) -> None:
    checkpoint.mark(tmp_path, "best", save(tmp_path, 1))
    save(tmp_path, 2)
    restore_marks(tmp_path, checkpoint.newest(tmp_path), TrainingState(2, best_score=5.0, best_step=2), "psnr")
    assert checkpoint.best(tmp_path).step == 2
    assert '"step_00000002"' in (tmp_path / "last.json").read_text()


def test_a_best_checkpoint_that_is_damaged_is_forgotten_so_that_validation_chooses_anew(tmp_path: Path) -> None:
    (save(tmp_path, 1) / "state.pt").write_bytes(b"gone")
    checkpoint.mark(tmp_path, "best", tmp_path / "step_00000001")
    save(tmp_path, 2)
    standing = TrainingState(2, best_score=5.0, best_step=1)
    restore_marks(tmp_path, checkpoint.newest(tmp_path), standing, "psnr")
    assert (standing.best_score, standing.best_step) == (None, None)
    assert checkpoint.best(tmp_path) is None
