"""The loop: what is checked, validated, kept and told, and that resuming is as if it had never stopped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from medtrans import Callback, Method, RunInfo, Scored, TrainingError
from medtrans.runs import checkpoint
from medtrans.training.state import History, TrainingState, resume
from medtrans.types import Batch
from tests.helpers.toys import toy_trainer


class Random(Method):
    """Adds noise to one weight: its result tells whether the random state of every step was the same."""

    def __init__(self) -> None:
        self.network = nn.Linear(2, 2)
        nn.init.zeros_(self.network.weight)
        self.steps: list[int] = []

    def networks(self) -> dict[str, nn.Module]:
        return {"generator": self.network}

    def setup(self, fabric: Any) -> None:
        """Nothing to hand over."""

    def training_step(self, batch: Batch, step: int) -> dict[str, Tensor]:
        self.steps.append(step)
        with torch.no_grad():
            self.network.weight += torch.randn(2, 2) + batch.source.mean()
        return {"loss": torch.ones(()), "other": torch.ones(())}

    def translate(self, source: Tensor) -> Tensor:
        return source

    def state_dict(self) -> dict[str, Any]:
        return {"count": len(self.steps)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.loaded = state["count"]


class Ears(Callback):
    def __init__(self) -> None:
        self.heard: list[str] = []

    def on_start(self, run: RunInfo) -> None:
        self.heard.append(f"start {run.first_step}")

    def on_step(self, step: int, values: Mapping[str, Tensor]) -> None:
        self.heard.append(f"step {step}")

    def on_validation(self, step: int, means: Mapping[str, float], cases: Sequence[Scored]) -> None:
        self.heard.append(f"validation {step}")

    def on_checkpoint(self, step: int, folder: Path) -> None:
        self.heard.append(f"checkpoint {step} {folder.name}")

    def on_end(self, step: int, error: BaseException | None) -> None:
        self.heard.append(f"end {step} {type(error).__name__ if error else 'well'}")


def batches(first: int, steps: int) -> Iterable[Batch]:
    for step in range(first, steps):
        image = torch.full((1, 1, 2, 2, 2), float(step))
        yield Batch(image, image, None, (step + 1,))


def go(
    method: Method,
    folder: Path,
    *,
    state: TrainingState | None = None,
    scores: Iterable[float] = (),
    last: int | None = None,
    **more: Any,
) -> TrainingState:
    state, left = state or TrainingState(), iter(scores)
    trainer = toy_trainer(method, folder, validate=(lambda: ({"psnr": next(left)}, [])) if scores else None, **more)
    run = RunInfo(folder, {}, state.step, trainer.steps)
    trainer.fit(batches(state.step, last or trainer.steps), state, run)
    return state


def newest(folder: Path) -> checkpoint.Checkpoint:
    found = checkpoint.newest(folder)
    assert found is not None
    return found


def best_step(folder: Path) -> int | None:
    best = checkpoint.best(folder)
    return best.step if best else None


def test_a_resumed_run_ends_as_the_one_left_alone_and_one_of_another_seed_does_not(tmp_path: Path) -> None:
    straight, other = Random(), Random()
    go(straight, tmp_path / "a")
    go(Random(), tmp_path / "b", steps=4)
    second = Random()
    state = resume(second, newest(tmp_path / "b"))
    assert (state.step, second.loaded) == (4, 4)
    torch.manual_seed(99)
    go(second, tmp_path / "b", state=state)
    assert second.steps == [4, 5]
    assert torch.equal(straight.network.weight, second.network.weight)
    go(other, tmp_path / "c", seed=4)
    assert not torch.equal(straight.network.weight, other.network.weight)


def test_callbacks_hear_everything_in_order(tmp_path: Path) -> None:
    ears = Ears()
    go(Random(), tmp_path, steps=3, scores=[1.0, 2.0], callbacks=[ears])
    assert ears.heard == [
        "start 0", "step 1", "step 2", "validation 2", "checkpoint 2 step_00000002", "step 3", "validation 3",
        "checkpoint 3 step_00000003", "end 3 well",
    ]  # fmt: skip


@pytest.mark.parametrize("moment", ["on_start", "on_step", "on_end"])
def test_a_callbacks_error_is_its_own_and_the_others_still_hear_the_end(tmp_path: Path, moment: str) -> None:
    class Clumsy(Callback):
        """Fails at one moment."""

    def fail(*_: Any) -> None:
        raise LookupError("clumsy")

    clumsy, ears = Clumsy(), Ears()
    setattr(clumsy, moment, fail)
    with pytest.raises(LookupError, match="clumsy"):
        go(Random(), tmp_path, steps=2, callbacks=[ears, clumsy])
    assert ears.heard[0] == "start 0"
    assert ears.heard[-1].startswith("end")
    assert ears.heard[-1].endswith("LookupError")


def test_batches_that_end_too_early_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="step 3: the batches ended, 6 steps were planned"):
        go(Random(), tmp_path, last=3)


@pytest.mark.parametrize(("higher", "expected"), [(True, 4), (False, 2)])
def test_best_is_the_best_validation_and_the_earlier_of_equals(tmp_path: Path, *, higher: bool, expected: int) -> None:
    go(Random(), tmp_path, best_is_higher=higher, scores=[1.0, 3.0, 3.0])
    assert best_step(tmp_path) == expected


def test_the_best_score_survives_a_resume(tmp_path: Path) -> None:
    go(Random(), tmp_path, steps=2, scores=[5.0])
    method = Random()
    go(method, tmp_path, steps=4, state=resume(method, newest(tmp_path)), scores=[4.0])
    assert best_step(tmp_path) == 2


def test_curves_travel_in_the_checkpoint(tmp_path: Path) -> None:
    go(Random(), tmp_path, steps=20, every=10, scores=[1.0, 2.0])
    history = newest(tmp_path).state()["history"]["curves"]
    assert history["loss"] == [[10.0, 1.0], [20.0, 1.0]]
    assert history["validation psnr"] == [[10.0, 1.0], [20.0, 2.0]]


def test_a_long_curve_is_thinned_evenly() -> None:
    history = History()
    for step in range(20_000):
        history.add(step, {"l1": 0.0})
    steps = [point[0] for point in history.curves["l1"]]
    assert 1000 <= len(steps) <= 2001
    assert len({after - before for before, after in pairwise(steps)}) == 1
