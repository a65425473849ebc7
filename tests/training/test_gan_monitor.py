"""What goes wrong in an adversarial training without an error is found in time, told once and kept; what goes well is
left alone."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import medtrans
from medtrans.builtin.losses.adversarial import Relativistic
from medtrans.builtin.losses.voxel import L1
from medtrans.builtin.methods.base import accuracy
from medtrans.data.preprocessing import Prepared
from medtrans.errors import TrainingError
from medtrans.pipeline import evaluate
from medtrans.plugins.interfaces import RunInfo
from medtrans.training.gan_monitor import GanMonitor, MonitorLog
from medtrans.training.nan_guard import LOG_INTERVAL
from medtrans.training.state import TrainingState
from medtrans.types import Batch, DiscriminatorOutput
from medtrans.volume import Grid
from tests.helpers.toys import toy_method, toy_trainer

GRID = Grid((16, 16, 16), np.eye(4))
CASES = 4


def phantom(seed: int, number: int) -> tuple[np.ndarray, np.ndarray]:
    """A toy pair `(16, 16, 16)`: blobs of a subject's own, dark and bright the other way round in the target."""
    rng = np.random.default_rng((seed, number))
    where = np.stack(np.meshgrid(*[np.arange(16.0)] * 3, indexing="ij"))
    source = np.full((16, 16, 16), 0.15)
    target = np.full((16, 16, 16), 0.3)
    for _ in range(5):
        centre, radius, bright = rng.uniform(3, 13, 3), rng.uniform(2, 5), rng.uniform(0.2, 0.9)
        blob = np.linalg.norm(where - centre[:, None, None, None], axis=0) < radius
        source[blob], target[blob] = bright, 0.2 + 0.7 * (1 - bright) ** 2
    return source.astype(np.float32), target.astype(np.float32)


def monitor_in(folder: Path, *, cases: int = CASES, steps: int = 100_000, first_step: int = 0) -> GanMonitor:
    monitor = GanMonitor(LOG_INTERVAL, "psnr", higher_is_better=True, cases=cases)
    monitor.on_start(RunInfo(folder, {}, first_step, steps))
    return monitor


def psnr(prediction: np.ndarray, target: np.ndarray) -> float:
    return float(-10 * np.log10(np.mean((prediction - target) ** 2) + 1e-12))


def show(monitor: GanMonitor, number: int, source: np.ndarray, target: np.ndarray, prediction: np.ndarray) -> float:
    """Show one case `(i, j, k)` of a validation; returns its score."""
    prepared = Prepared(source[None], target[None], None, GRID, GRID, 1, {}, {})
    own = psnr(prediction, target)
    monitor.add_case(number, prepared, prediction[None], source > 0.1, own, lambda made: psnr(made[0], target))
    return own


def validate(monitor: GanMonitor, seed: int, step: int, generator: str) -> None:
    """A validation on toy phantoms."""
    scores = []
    for number in range(CASES):
        source, target = phantom(seed, number)
        prediction = np.clip(GENERATORS[generator](source, target, np.random.default_rng((seed, number, step))), 0, 1)
        scores.append(show(monitor, number, source, target, prediction))
    monitor.on_validation(step, {"psnr": float(np.mean(scores))}, [])


def noise(rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal((16, 16, 16))


GENERATORS: dict[str, Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]] = {
    "collapsed": lambda source, target, rng: 0.4 + 1e-3 * noise(rng),
    "one for all": lambda source, target, rng: phantom(99, 0)[1] + 1e-3 * noise(rng),  # with plenty of contrast
    "healthy": lambda source, target, rng: 0.45 * (target + np.roll(target, 1, 0)) + 0.03 * noise(rng),  # dark, blurred
    "identity": lambda source, target, rng: source,
    "worse": lambda source, target, rng: 1 - target + 0.1 * noise(rng),
}


def after(folder: Path, generator: str, seed: int, validations: int = 3) -> list[str]:
    """The kinds told after so many validations."""
    monitor = monitor_in(folder)
    for step in range(1, validations + 1):
        validate(monitor, seed, step, generator)
    return list(monitor.findings.recorded)


@pytest.mark.parametrize("generator", ["collapsed", "one for all"])
def test_a_collapsed_generator_is_told_within_three_validations(tmp_path: Path, generator: str) -> None:
    assert all("collapse" in after(tmp_path, generator, seed) for seed in range(8))


def test_a_healthy_generator_raises_no_more_than_one_alarm_in_twenty(tmp_path: Path) -> None:
    assert sum(bool(after(tmp_path, "healthy", seed, validations=5)) for seed in range(20)) <= 1


def test_an_identity_generator_is_always_told_and_only_of_copying(tmp_path: Path) -> None:
    assert all(after(tmp_path, "identity", seed) == ["copy-through"] for seed in range(8))


@pytest.mark.parametrize(
    "pair",
    [
        lambda source, target: (source * 0.9, source * 0.9),  # the target is like its source
        lambda source, target: (0.25 + target / 50, 0.2501 + target / 52),  # soft tissue in a window of thousands of HU
    ],
    ids=["copy", "collapse"],
)
def test_what_the_target_is_like_too_is_no_fault(tmp_path: Path, pair: Any) -> None:
    monitor = monitor_in(tmp_path)
    for step in (1, 2, 3):
        for number in range(CASES):
            source, target = phantom(0, number)
            show(monitor, number, source, *pair(source, target))
        monitor.on_validation(step, {"psnr": 40.0}, [])
    assert monitor.findings.recorded == {}


def test_a_validation_worse_than_the_source_itself_is_told_after_three_in_a_row(tmp_path: Path) -> None:
    monitor = monitor_in(tmp_path)
    for step, generator in enumerate(("worse", "worse", "healthy", "worse", "worse")):
        validate(monitor, 0, step, generator)
    assert monitor.findings.recorded == {}
    validate(monitor, 0, 5, "worse")
    assert list(monitor.findings.recorded) == ["baseline"]


def test_at_the_last_validation_of_a_run_once_is_enough(tmp_path: Path) -> None:
    monitor = monitor_in(tmp_path, steps=7)
    validate(monitor, 0, 6, "collapsed")
    assert monitor.findings.recorded == {}
    validate(monitor, 0, 7, "collapsed")
    assert "collapse" in monitor.findings.recorded


def scripted(monitor: GanMonitor, steps: int, values: Any) -> list[str]:
    """The kinds told after so many steps of scalars that a function of the step gives."""
    for step in range(1, steps + 1):
        monitor.on_step(step, {name: torch.tensor(float(value)) for name, value in values(step).items()})
    return list(monitor.findings.recorded)


@pytest.mark.parametrize(("accuracy", "side"), [(0.995, "high"), (0.52, "low")])
def test_a_game_that_one_side_has_won_for_500_steps_is_told_with_the_numbers(
    tmp_path: Path, accuracy: float, side: str
) -> None:
    monitor = monitor_in(tmp_path)
    assert scripted(monitor, 499, lambda step: {"discriminator_accuracy": accuracy}) == []
    assert scripted(monitor, 510, lambda step: {"discriminator_accuracy": accuracy}) == [
        f"discriminator_accuracy {side}"
    ]
    (warning,) = monitor.findings.warnings()
    assert f"{accuracy:.3g}" in warning


def test_each_of_several_discriminators_is_watched(tmp_path: Path) -> None:
    values = {"a_discriminator_accuracy": 0.7, "b_discriminator_accuracy": 1}
    assert scripted(monitor_in(tmp_path), 500, lambda step: values) == ["b_discriminator_accuracy high"]


@pytest.mark.parametrize(("generator", "discriminator", "told"), [(500, 1, "generator"), (1, 500, "discriminator")])
def test_gradients_a_hundred_times_the_others_are_told(
    tmp_path: Path, generator: float, discriminator: float, told: str
) -> None:
    values = {"generator_gradient_norm": generator, "discriminator_gradient_norm": discriminator}
    assert scripted(monitor_in(tmp_path), 500, lambda step: values) == [f"gradient norms {told}"]


def test_a_loss_ten_times_its_lowest_for_200_steps_is_told(tmp_path: Path) -> None:
    for steps, told in ((490, []), (540, ["divergence"])):
        assert scripted(monitor_in(tmp_path), steps, lambda step: {"generator": 1 if step < 300 else 50}) == told


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("discriminator_accuracy", lambda step: 0.999 if step % 400 else 0.8),  # open again in between
        ("generator", lambda step: 1 / step + (30 if step % 100 == 0 else 0)),  # falling, with peaks
        ("generator", lambda step: -1 + step / 100),  # from below 0
        ("generator", lambda step: 1 + 8 * (step > 100)),  # less than ten times
    ],
)
def test_a_game_that_is_open_and_a_loss_that_falls_peaks_or_has_no_ratio_are_left_alone(
    tmp_path: Path, name: str, value: Any
) -> None:
    assert scripted(monitor_in(tmp_path), 1000, lambda step: {name: value(step)}) == []


class Untouchable(dict[str, Tensor]):
    """Scalars on a device that would have to be waited for."""

    def items(self) -> Any:
        raise BlockingIOError

    __getitem__ = __iter__ = get = values = keys = items  # type: ignore[assignment]  # whatever is asked


def test_scalars_are_read_at_the_log_interval_only(tmp_path: Path) -> None:
    monitor = monitor_in(tmp_path)
    monitor.on_step(1, {"generator": torch.tensor(1.0)})
    for step in range(2, 10):
        monitor.on_step(step, Untouchable(generator=torch.ones(())))
    with pytest.raises(BlockingIOError):
        monitor.on_step(10, Untouchable(generator=torch.ones(())))


def test_a_fault_is_told_once_in_the_log_and_kept_over_an_interruption(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monitor = monitor_in(tmp_path)
    with caplog.at_level(logging.WARNING, "medtrans"):
        for step in (10, 20, 30, 40):
            validate(monitor, 0, step, "collapsed")
    told = [record.getMessage() for record in caplog.records if "mode collapse" in record.getMessage()]
    assert len(told) == 1
    monitor.on_end(40, None)
    again = monitor_in(tmp_path, first_step=40)
    assert again.findings == monitor.findings
    assert again.findings.recorded["collapse"]["last"] == 40
    assert monitor_in(tmp_path, first_step=35).findings.recorded["collapse"]["last"] == 35
    assert monitor_in(tmp_path, first_step=20).findings.recorded == {}  # resumed from before it was seen
    assert MonitorLog.read(tmp_path / "watch.json").recorded == {}


@pytest.mark.parametrize("text", ["", "[]", '{"told": 3}', '{"told": {"a": {}}}', "[" * 100_000])
def test_a_damaged_record_costs_the_findings_and_no_more(tmp_path: Path, text: str) -> None:
    (tmp_path / "watch.json").write_text(text)
    assert MonitorLog.read(tmp_path / "watch.json").recorded == {}


class Judge(nn.Module):
    """A small discriminator."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv3d(2, 4, 3, 2, 1), nn.LeakyReLU(0.2), nn.Conv3d(4, 1, 1))

    def forward(self, candidate: Sequence[Tensor], source: Sequence[Tensor]) -> Any:
        return DiscriminatorOutput((self.body(torch.cat((candidate[0], source[0]), 1)),))


def trained(folder: Path, seed: int, rate: float) -> set[str]:
    """The kinds told in a toy run of 300 steps at a learning rate; "stopped" where it had to stop."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        method = toy_method(
            lambda source, target: nn.Sequential(
                nn.Conv3d(source, 4, 3, padding=1), nn.LeakyReLU(0.2), nn.Conv3d(4, target, 3, padding=1)
            ),
            {"l1": (L1(levels=1), 1.0), "relativistic": (Relativistic(), 1e-4)},
            discriminator=lambda source, target: Judge(),
            optimizer=lambda parameters: torch.optim.Adam(parameters, lr=rate),
        )
        pairs = [phantom(seed, number) for number in range(8)]
        sources, targets = (torch.from_numpy(np.stack(images))[:, None] for images in zip(*pairs, strict=True))
        monitor = GanMonitor(LOG_INTERVAL, "psnr", higher_is_better=True, cases=2)

        def batches() -> Iterator[Batch]:
            for step in range(300):
                chosen = [step % 6, (step + 1) % 6]
                yield Batch(sources[chosen], targets[chosen], None, tuple(chosen))

        def judged() -> tuple[dict[str, float], list[Any]]:
            scores = []
            for number in (6, 7):
                made = method.translate(sources[number : number + 1])[0, 0].numpy()
                scores.append(show(monitor, number, *pairs[number], made))
            return {"psnr": float(np.mean(scores))}, []

        folder.mkdir()
        trainer = toy_trainer(
            method,
            folder / "checkpoints",
            steps=300,
            every=50,
            checkpoint_every=300,
            seed=seed,
            best=None,
            validate=judged,
            callbacks=[monitor],
        )
        try:
            trainer.fit(batches(), TrainingState(), RunInfo(folder, {}, 0, 30_000))
        except TrainingError:
            return {*monitor.findings.recorded, "stopped"}
    return set(monitor.findings.recorded)


def diverged(folder: Path, seed: int) -> bool:
    return bool(trained(folder, seed, 1e-2 * 1000) & {"stopped", "divergence", "baseline"})


def test_a_learning_rate_a_thousand_times_too_high_is_told_within_300_steps(tmp_path: Path) -> None:
    assert diverged(tmp_path / "0", 0)


@pytest.mark.slow
def test_a_learning_rate_a_thousand_times_too_high_is_told_within_300_steps_ten_times_of_ten(tmp_path: Path) -> None:
    assert all(diverged(tmp_path / str(seed), seed) for seed in range(10))


@pytest.mark.slow
def test_the_same_training_at_a_fit_rate_is_left_alone(tmp_path: Path) -> None:
    assert not trained(tmp_path / "run", 0, 1e-2) & {"stopped", "divergence", "copy-through"}


def test_warnings_reach_log_summary_and_report_and_stay_there(tiny: dict[str, Any]) -> None:
    tiny["generator"] = {"name": "unet", "options": {"width": 2, "levels": 1, "residual": True}}  # begins as a copy
    folder = medtrans.run(tiny, ["train.steps=2"])
    warned = json.loads(folder.summary.read_text())["warnings"]
    (warning,) = [one for one in warned if one.startswith("copy-through: ")]
    text, _, seen = warning.partition(" (first seen at step ")
    assert seen == "2, last at step 2)"
    assert f"step 2: {text}" in folder.log.read_text()
    assert "copy-through: " in folder.report.read_text()
    folder.summary.unlink()
    evaluate(folder.path)
    assert warning in json.loads(folder.summary.read_text())["warnings"]


def test_the_accuracy_is_the_share_of_places_where_the_target_looks_more_real() -> None:
    real = DiscriminatorOutput((torch.tensor([1.0, 2.0, 3.0, 0.0]), torch.tensor([0.0])))
    fake = DiscriminatorOutput((torch.tensor([0.0, 3.0, 1.0, 0.0]), torch.tensor([0.0])))
    assert float(accuracy(real, fake)) == pytest.approx((2.5 / 4 + 0.5) / 2)
