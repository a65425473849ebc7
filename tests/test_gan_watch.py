"""What goes wrong in an adversarial training without an error is found in time, told once and kept; what goes well is
left alone."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import medtrans
from medtrans.builtin.losses.adversarial import Relativistic
from medtrans.builtin.losses.voxel import L1
from medtrans.builtin.methods.trained_network import accuracy
from medtrans.components import Parts, RunInfo, WeightedLoss
from medtrans.errors import TrainingError
from medtrans.gan_watch import GanWatch, findings_in
from medtrans.pipeline import evaluate
from medtrans.preprocess import Prepared
from medtrans.training import LOG_INTERVAL, Plan, Standing, train
from medtrans.types import Batch, DiscriminatorOutput
from medtrans.volume import Grid

from .conftest import Install

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


def watch_in(folder: Path, *, cases: int = CASES, steps: int = 100_000, first_step: int = 0) -> GanWatch:
    folder.mkdir(exist_ok=True)
    watch = GanWatch(LOG_INTERVAL, "psnr", higher_is_better=True, cases=cases)
    watch.on_start(RunInfo(folder, {}, first_step, steps))
    return watch


def psnr(prediction: np.ndarray, target: np.ndarray) -> float:
    return float(-10 * np.log10(np.mean((prediction - target) ** 2) + 1e-12))


def validate(watch: GanWatch, seed: int, step: int, generator: Any) -> None:
    """A validation of a generator `(source, target, rng) -> prediction` on toy phantoms."""
    scores = []
    for number in range(CASES):
        source, target = phantom(seed, number)
        prediction = np.clip(generator(source, target, np.random.default_rng((seed, number, step))), 0, 1)[None]
        prepared = Prepared(source[None], target[None], None, GRID, GRID, 1, {}, {})
        own = psnr(prediction[0], target)
        watch.see_case(
            number, prepared, prediction, source > 0.1, own, lambda made, target=target: psnr(made[0], target)
        )
        scores.append(own)
    watch.on_validation(step, {"psnr": float(np.mean(scores))}, [])


def collapsed(source: np.ndarray, target: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return 0.4 + 1e-3 * rng.standard_normal(source.shape)


def one_for_all(source: np.ndarray, target: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The same image with plenty of contrast whatever the source is."""
    return phantom(99, 0)[1] + 1e-3 * rng.standard_normal(source.shape)


def healthy(source: np.ndarray, target: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The target, blurred along an axis, too dark and noisy."""
    blurred = (target + np.roll(target, 1, 0) + np.roll(target, -1, 0)) / 3
    return 0.9 * blurred + 0.03 * rng.standard_normal(source.shape)


def identity(source: np.ndarray, target: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return source


@pytest.mark.parametrize("generator", [collapsed, one_for_all])
def test_a_collapsed_generator_is_told_within_three_validations(tmp_path: Path, generator: Any) -> None:
    for seed in range(20):
        watch = watch_in(tmp_path)
        for step in (1, 2, 3):
            validate(watch, seed, step, generator)
        assert "collapse" in watch.findings.told, seed


def test_a_healthy_generator_raises_no_more_than_one_alarm_in_twenty(tmp_path: Path) -> None:
    alarmed = []
    for seed in range(20):
        watch = watch_in(tmp_path)
        for step in range(1, 6):
            validate(watch, seed, step, healthy)
        alarmed += [seed] if watch.findings.told else []
    assert len(alarmed) <= 1


def test_an_identity_generator_is_always_told_and_only_of_copying(tmp_path: Path) -> None:
    for seed in range(20):
        watch = watch_in(tmp_path)
        for step in (1, 2, 3):
            validate(watch, seed, step, identity)
        assert list(watch.findings.told) == ["copy-through"], seed


def test_a_likeness_that_the_target_has_too_is_no_copy(tmp_path: Path) -> None:
    watch = watch_in(tmp_path)
    for step in (1, 2, 3):
        for number in range(CASES):
            source, _ = phantom(0, number)
            prepared = Prepared(source[None], source[None] * 0.9, None, GRID, GRID, 1, {}, {})
            watch.see_case(number, prepared, source[None] * 0.9, source > 0.1, 40.0, lambda made: 0.0)
        watch.on_validation(step, {"psnr": 40.0}, [])
    assert watch.findings.told == {}


def test_a_target_that_varies_little_by_nature_is_no_collapse(tmp_path: Path) -> None:
    """CT of soft tissue in a window of thousands of HU."""
    watch = watch_in(tmp_path)
    for step in (1, 2, 3):
        for number in range(CASES):
            source, target = phantom(0, number)
            prepared = Prepared(source[None], 0.25 + target[None] / 50, None, GRID, GRID, 1, {}, {})
            watch.see_case(number, prepared, 0.2501 + target[None] / 52, source > 0.1, 40.0, lambda made: 0.0)
        watch.on_validation(step, {"psnr": 40.0}, [])
    assert watch.findings.told == {}


def test_a_validation_worse_than_the_source_itself_is_told_after_three_in_a_row(tmp_path: Path) -> None:
    def worse(source: np.ndarray, target: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return 1 - target + 0.1 * rng.standard_normal(source.shape)

    watch = watch_in(tmp_path)
    for step, generator in enumerate((worse, worse, healthy, worse, worse)):
        validate(watch, 0, step, generator)
    assert watch.findings.told == {}
    validate(watch, 0, 5, worse)
    assert list(watch.findings.told) == ["baseline"]
    assert "for the source taken as it is" in watch.findings.warnings()[0]


def test_at_the_last_validation_of_a_run_once_is_enough(tmp_path: Path) -> None:
    watch = watch_in(tmp_path, steps=7)
    validate(watch, 0, 6, collapsed)
    assert watch.findings.told == {}
    validate(watch, 0, 7, collapsed)
    assert "collapse" in watch.findings.told


def scripted(watch: GanWatch, steps: int, values: Any) -> list[str]:
    """The kinds told after so many steps of scalars that a function of the step gives."""
    for step in range(1, steps + 1):
        watch.on_step(step, {name: torch.tensor(float(value)) for name, value in values(step).items()})
    return list(watch.findings.told)


@pytest.mark.parametrize(
    ("accuracy", "kind", "words"),
    [
        (0.995, "discriminator_accuracy high", "the discriminator wins"),
        (0.52, "discriminator_accuracy low", "guessing"),
    ],
)
def test_a_game_that_one_side_has_won_for_500_steps_is_told_with_the_numbers(
    tmp_path: Path, accuracy: float, kind: str, words: str
) -> None:
    watch = watch_in(tmp_path)
    assert scripted(watch, 499, lambda step: {"discriminator_accuracy": accuracy}) == []
    assert scripted(watch, 510, lambda step: {"discriminator_accuracy": accuracy}) == [kind]
    (warning,) = watch.findings.warnings()
    assert words in warning
    assert f"{accuracy:.3g} now" in warning


def test_a_game_that_is_open_again_in_between_is_not_won(tmp_path: Path) -> None:
    def values(step: int) -> Mapping[str, float]:
        return {"discriminator_accuracy": 0.8 if step % 400 == 0 else 0.999}

    assert scripted(watch_in(tmp_path), 3000, values) == []


def test_each_of_several_discriminators_is_watched(tmp_path: Path) -> None:
    told = scripted(
        watch_in(tmp_path), 500, lambda step: {"a_discriminator_accuracy": 0.7, "b_discriminator_accuracy": 1}
    )
    assert told == ["b_discriminator_accuracy high"]


@pytest.mark.parametrize(("generator", "discriminator", "told"), [(500, 1, "generator"), (1, 500, "discriminator")])
def test_gradients_a_hundred_times_the_others_are_told(
    tmp_path: Path, generator: float, discriminator: float, told: str
) -> None:
    def values(step: int) -> Mapping[str, float]:
        return {"generator_gradient_norm": generator, "discriminator_gradient_norm": discriminator}

    assert scripted(watch_in(tmp_path), 500, values) == [f"gradient norms {told}"]


def test_a_loss_ten_times_its_lowest_for_200_steps_is_told(tmp_path: Path) -> None:
    def values(step: int) -> Mapping[str, float]:
        return {"generator": 1.0 if step < 300 else 50.0}

    assert scripted(watch_in(tmp_path), 490, values) == []
    assert scripted(watch_in(tmp_path), 540, values) == ["divergence"]


@pytest.mark.parametrize(
    "loss",
    [
        lambda step: 1 / step + (30 if step % 100 == 0 else 0),  # falling, with peaks
        lambda step: -1 + step / 100,  # from below 0
        lambda step: 1 + 8 * (step > 100),  # less than ten times
    ],
)
def test_a_loss_that_falls_peaks_or_has_no_ratio_is_left_alone(tmp_path: Path, loss: Any) -> None:
    assert scripted(watch_in(tmp_path), 1000, lambda step: {"generator": loss(step)}) == []


class Untouchable(Mapping[str, Tensor]):
    """Scalars on a device that would have to be waited for."""

    def __getitem__(self, name: str) -> Tensor:
        raise AssertionError("the device was waited for")

    def __iter__(self) -> Iterator[str]:
        raise AssertionError("the device was waited for")

    def __len__(self) -> int:
        return 1


def test_scalars_are_read_at_the_log_interval_only(tmp_path: Path) -> None:
    watch = watch_in(tmp_path)
    watch.on_step(1, {"generator": torch.tensor(1.0)})
    for step in range(2, 10):
        watch.on_step(step, Untouchable())
    with pytest.raises(AssertionError, match="waited for"):
        watch.on_step(10, Untouchable())


def test_a_fault_is_told_once_in_the_log_and_kept_over_an_interruption(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    watch = watch_in(tmp_path)
    with caplog.at_level(logging.WARNING, "medtrans"):
        for step in (10, 20, 30, 40):
            validate(watch, 0, step, collapsed)
    told = [record.getMessage() for record in caplog.records if "mode collapse" in record.getMessage()]
    assert len(told) == 1
    assert "Give a voxel-wise loss such as l1 more weight" in told[0]
    watch.on_end(40, None)
    again = watch_in(tmp_path, first_step=40)
    assert again.findings == watch.findings
    assert again.findings.told["collapse"]["last"] == 40
    assert watch_in(tmp_path, first_step=35).findings.told["collapse"]["last"] == 35
    assert watch_in(tmp_path, first_step=20).findings.told == {}  # resumed from before it was seen
    assert findings_in(tmp_path / "watch.json").told == {}


@pytest.mark.parametrize("text", ["", "[]", '{"told": 3}', '{"told": {"a": {}}}', "[" * 100_000])
def test_a_damaged_record_costs_the_findings_and_no_more(tmp_path: Path, text: str) -> None:
    (tmp_path / "watch.json").write_text(text)
    assert findings_in(tmp_path / "watch.json").told == {}


class Judge(nn.Module):
    """A small discriminator."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv3d(2, 4, 3, 2, 1), nn.LeakyReLU(0.2), nn.Conv3d(4, 1, 1))

    def forward(self, candidate: Sequence[Tensor], source: Sequence[Tensor]) -> Any:
        return DiscriminatorOutput((self.body(torch.cat((candidate[0], source[0]), 1)),))


def trained(folder: Path, seed: int, rate: float, steps: int) -> tuple[GanWatch, bool]:
    """A toy run at a learning rate; whether it had to stop, too."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        parts = Parts(
            make_generator=lambda source, target: nn.Sequential(
                nn.Conv3d(source, 4, 3, padding=1), nn.LeakyReLU(0.2), nn.Conv3d(4, target, 3, padding=1)
            ),
            make_discriminator=lambda source, target: Judge(),
            losses={"l1": WeightedLoss(L1(levels=1), 1.0), "relativistic": WeightedLoss(Relativistic(), 1e-4)},
            make_optimizer=lambda parameters, role: torch.optim.Adam(parameters, lr=rate),
            learning_rate_factor=lambda step, role: 1.0,
            source_channels=1,
            target_channels=1,
            epoch_steps=10,
            accumulate=1,
        )
        method = medtrans.PairedMethod(parts)
        pairs = [phantom(seed, number) for number in range(8)]
        sources, targets = (torch.from_numpy(np.stack(images))[:, None] for images in zip(*pairs, strict=True))
        watch = GanWatch(LOG_INTERVAL, "psnr", higher_is_better=True, cases=2)

        def batches() -> Iterator[Batch]:
            for step in range(steps):
                chosen = [step % 6, (step + 1) % 6]
                yield Batch(sources[chosen], targets[chosen], None, tuple(chosen))

        def judged() -> tuple[dict[str, float], list[Any]]:
            scores = []
            for number in (6, 7):
                made = method.translate(sources[number : number + 1])[0].numpy()
                true = targets[number].numpy()
                prepared = Prepared(sources[number].numpy(), true, None, GRID, GRID, 1, {}, {})
                scores.append(psnr(made, true))
                watch.see_case(
                    number, prepared, made, true[0] > 0.1, scores[-1], lambda one, true=true: psnr(one, true)
                )
            return {"psnr": float(np.mean(scores))}, []

        folder.mkdir()
        plan = Plan(seed, 0, steps, 50, steps, 2, None, True, folder / "checkpoints", "c0ffee")
        run = RunInfo(folder, {}, 0, 100 * steps)
        try:
            train(method, batches(), plan, standing=Standing(), validate=judged, callbacks=[watch], run=run)
        except TrainingError:
            return watch, True
    return watch, False


def diverged(folder: Path, seed: int) -> bool:
    watch, stopped = trained(folder, seed, 1e-2 * 1000, 300)
    return stopped or bool({"divergence", "baseline"} & set(watch.findings.told))


def test_a_learning_rate_a_thousand_times_too_high_is_told_within_300_steps(tmp_path: Path) -> None:
    assert diverged(tmp_path / "0", 0)


@pytest.mark.slow
def test_a_learning_rate_a_thousand_times_too_high_is_told_within_300_steps_ten_times_of_ten(tmp_path: Path) -> None:
    assert all(diverged(tmp_path / str(seed), seed) for seed in range(10))


def test_the_same_training_at_a_fit_rate_is_left_alone(tmp_path: Path) -> None:
    watch, stopped = trained(tmp_path / "run", 0, 1e-2, 300)
    assert not stopped
    assert not {"divergence", "copy-through"} & set(watch.findings.told)


SAME = '''
"""A generator that gives back its source."""
import torch
from torch import nn

from medtrans import Component, hookimpl


class Same(nn.Module):
    """Nothing is changed, much.

    Args:
        in_channels: of the source.
        out_channels: of the target, as many.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.one = nn.Parameter(torch.ones(()))

    def forward(self, source):
        return source * self.one


@hookimpl
def medtrans_generators():
    return [Component("same", Same)]
'''


def test_warnings_reach_log_summary_and_report_and_stay_there(
    install: Install, tiny: dict[str, Any], tmp_path: Path
) -> None:
    install("copy", SAME)
    folder = medtrans.run(tiny | {"generator": {"name": "copy:same"}})
    warned = json.loads(folder.summary.read_text())["warnings"]
    (warning,) = [one for one in warned if one.startswith("copy-through: ")]
    assert warning.endswith("(first seen at step 4, last at step 4)")
    text = warning.partition(" (first")[0]
    assert f"step 4: {text}" in folder.log.read_text()
    assert "copy-through: the predictions are the source over again" in folder.report.read_text()
    folder.summary.unlink()
    evaluate(folder.path)
    assert warning in json.loads(folder.summary.read_text())["warnings"]


def test_the_accuracy_is_the_share_of_places_where_the_target_looks_more_real() -> None:
    real = DiscriminatorOutput((torch.tensor([1.0, 2.0, 3.0, 0.0]), torch.tensor([0.0])))
    fake = DiscriminatorOutput((torch.tensor([0.0, 3.0, 1.0, 0.0]), torch.tensor([0.0])))
    assert float(accuracy(real, fake)) == pytest.approx((2.5 / 4 + 0.5) / 2)
