"""What a run costs is kept beside its scores: parameters, seconds a step and a volume, memory."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from medtrans.training import costs
from medtrans.training.costs import StepClock, costs_text, keep_training_costs, keep_translation_costs, read_costs


class Time:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    time = Time()
    monkeypatch.setattr(costs, "time", time)
    return time


def test_validations_and_checkpoints_do_not_count_as_training(time: Time) -> None:
    clock = StepClock()
    for step in range(1, 5):
        time.now += 2.0
        clock.on_step(step, {})
        if step == 2:
            time.now += 100.0
            clock.on_validation(step, {}, [])
            time.now += 50.0
            clock.on_checkpoint(step, Path())
    assert clock.counted() == [2.0, 2.0, 2.0]


def test_the_first_steps_of_a_long_training_do_not_count(time: Time) -> None:
    clock = StepClock()
    for step in range(1, 31):
        time.now += 60.0 if step <= 11 else 0.5
        clock.on_step(step, {})
    assert clock.counted() == [0.5] * 19


def test_frozen_weights_are_no_parameters_and_shared_ones_count_once(tmp_path: Path, time: Time) -> None:
    clock = StepClock()
    for step in (1, 2):
        time.now += 1.0
        clock.on_step(step, {})
    shared = torch.nn.Linear(3, 1, bias=False)
    network = torch.nn.Sequential(shared, torch.nn.Linear(1, 3, bias=False), shared, torch.nn.Linear(3, 5))
    network[3].requires_grad_(False)
    keep_training_costs(tmp_path / "costs.json", {"generator": network}, clock, ranks=2)
    keep_translation_costs(tmp_path / "costs.json", [1.0, 3.0])

    found = read_costs(tmp_path / "costs.json")
    assert found["parameters"] == {"generator": 6}
    assert (found["training"]["seconds_per_step"], found["training"]["ranks"]) == (1.0, 2)
    assert (found["translation"]["seconds_per_volume"], found["translation"]["volumes"]) == (2.0, 2)
    # A run that was resumed at its end trains nothing, and says nothing else of what training cost.
    keep_training_costs(tmp_path / "costs.json", {}, StepClock(), ranks=1)
    assert read_costs(tmp_path / "costs.json") == found
    told = costs_text(found)
    assert told.startswith("Training took 1 s for 1 step (1 s a step) and at most ")
    assert "Translating one volume took 2 s on " in told
    assert told.endswith("Trained numbers: 6 (generator).")


def test_a_run_without_costs_tells_nothing(tmp_path: Path) -> None:
    assert read_costs(tmp_path / "costs.json") == {}
    assert costs_text({}) == ""
