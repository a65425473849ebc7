"""Numbers that are not finite stop a run within a log interval, are named, and reach no checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from medtrans import DataError, PairedMethod, RunInfo, TrainingError
from medtrans.plugins.optimizers import SGD
from medtrans.runs import checkpoint
from medtrans.training.nan_guard import LOG_INTERVAL
from medtrans.training.state import TrainingState
from medtrans.types import Batch, Loss, LossInputs, batch_mean
from tests.helpers.toys import toy_method, toy_trainer

BROKEN_AT = 13
"""The step, counted from 1; checkpoints are of steps 0, 5, 10."""


class Once(torch.autograd.Function):
    """The identity, whose gradient is replaced."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, gradient: float) -> Tensor:
        ctx.gradient = gradient
        return values.clone()

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        return torch.full_like(upstream, ctx.gradient), None


class Breakable(Loss):
    """A mean absolute difference that fails in one step, in its value or in its gradient alone."""

    def __init__(self, place: str, bad: float) -> None:
        super().__init__()
        self.place, self.bad = place, bad

    def forward(self, inputs: LossInputs) -> Tensor:
        prediction, now = inputs.prediction[0], inputs.step + 1 == BROKEN_AT
        if now and self.place == "gradient":
            prediction = Once.apply(prediction, self.bad)  # type: ignore[no-untyped-call]  # torch's
        value = batch_mean((prediction - inputs.target[0]).abs())
        return value + self.bad if now and self.place == "loss" else value


def method(place: str, bad: float) -> PairedMethod:
    return toy_method(
        lambda source, target: nn.Conv3d(source, target, 1),
        {"difference": (Breakable(place, bad), 1.0)},
        optimizer=SGD(lr=1e-3).make,
    )


def batches(place: str, bad: float, made: PairedMethod) -> Any:
    for step in range(1, 31):
        images = {"source": torch.rand(2, 1, 4, 4, 4), "target": torch.rand(2, 1, 4, 4, 4)}
        if step == BROKEN_AT and place in images:
            images[place][1, 0, 2, 2, 2] = bad
        if step == BROKEN_AT and place == "weight":
            nn.init.constant_(made.generator.bare.bias, bad)  # type: ignore[arg-type]  # a convolution has one
        yield Batch(images["source"], images["target"], None, (3, 7))


def go(
    folder: Path, made: PairedMethod, given: Any, state: TrainingState, validate: Any = None, every: int = 5
) -> None:
    toy_trainer(made, folder, steps=30, every=every, validate=validate).fit(given, state, RunInfo(folder, {}, 0, 30))


def scores(values: list[float]) -> Any:
    left = iter(values)
    return lambda: ({"psnr": next(left)}, [])


@pytest.mark.parametrize(
    ("place", "bad", "said"),
    [
        ("source", torch.nan, f"step {BROKEN_AT}: the source is not finite, in patches of case_0007"),
        ("target", torch.inf, f"step {BROKEN_AT}: the target is not finite, in patches of case_0007"),
        ("loss", torch.nan, f"step {BROKEN_AT}: difference is not finite, on patches of case_0003, case_0007"),
        ("gradient", torch.nan, f"step {BROKEN_AT}: generator_gradient_norm is not finite"),
        ("gradient", torch.inf, f"step {BROKEN_AT}: generator_gradient_norm is not finite"),
        ("weight", torch.nan, "weight tensors are not finite, first generator.bias"),
    ],
)
def test_what_is_not_finite_is_caught_within_a_log_interval_and_named_and_never_saved(
    tmp_path: Path, place: str, bad: float, said: str
) -> None:
    made = method(place, bad)
    seen: list[int] = []
    stepped = made.training_step
    made.training_step = lambda batch, step: (seen.append(step), stepped(batch, step))[1]  # type: ignore[method-assign]  # watches the calls
    with pytest.raises(TrainingError) as error:
        go(tmp_path, made, batches(place, bad, made), TrainingState(), scores([1.0, 2.0, 3.0]))
    assert said in str(error.value)
    assert len(seen) <= BROKEN_AT + LOG_INTERVAL
    for mark in ("last", "best"):
        assert '"step_00000010"' in (tmp_path / f"{mark}.json").read_text()
    found = checkpoint.newest(tmp_path)
    assert found is not None
    assert found.step == 10
    assert all(bool(torch.isfinite(one).all()) for one in found.networks()["generator"].values())


def test_it_is_caught_within_a_log_interval_without_any_checkpoint(tmp_path: Path) -> None:
    made, state = method("loss", torch.nan), TrainingState()
    with pytest.raises(TrainingError, match=f"step {BROKEN_AT}: difference"):
        go(tmp_path, made, batches("loss", torch.nan, made), state, every=30)
    assert state.step == 20


def test_a_translated_volume_that_is_not_finite_is_named_with_its_step(tmp_path: Path) -> None:
    made = method("none", 0.0)

    def validate() -> Any:
        raise DataError("case_0002: the prediction is not finite in 3 of 64 voxels: the weights are unusable")

    with pytest.raises(DataError, match=r"step 5: validation: case_0002: the prediction is not finite"):
        go(tmp_path, made, batches("none", 0.0, made), TrainingState(), validate)
    assert not (tmp_path / "best.json").exists()


def test_without_a_fault_the_run_ends_and_says_the_gradients_norm(tmp_path: Path) -> None:
    made, state = method("none", 0.0), TrainingState()
    go(tmp_path, made, batches("none", 0.0, made), state, scores([1.0] * 6))
    assert state.step == 30
    assert [step for step, _ in state.history.curves["generator_gradient_norm"]] == [10.0, 20.0, 30.0]
