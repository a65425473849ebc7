"""Progress and TensorBoard watch a run and change nothing."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from medtrans import RunInfo, Scored
from medtrans.builtin.callbacks import Progress, TensorBoard

VALUES = {"l1": torch.tensor(0.5), "learning_rate": torch.tensor(0.1)}


def case() -> Scored:
    return Scored("case_0001", {"psnr": 20.0}, np.zeros((8, 8, 3), dtype=np.uint8))


def test_tensorboard_holds_scalars_and_pictures_also_those_before_a_resume(tmp_path: Path) -> None:
    for first, steps in ((0, range(1, 7)), (4, range(5, 9))):
        board = TensorBoard(every=2)
        board.on_start(RunInfo(tmp_path, {}, first, 8))
        for step in steps:
            board.on_step(step, {"l1": torch.tensor(float(first))})
        board.on_validation(steps[-1], {"psnr": 20.0}, [case()])
        board.on_end(steps[-1], None)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("train/l1")] == [(2, 0), (4, 0), (6, 4), (8, 4)]
    assert [(event.step, event.value) for event in events.Scalars("validation/psnr")] == [(8, 20)]
    assert events.Tags()["images"] == ["case_0001"]


def test_progress_without_a_terminal_is_a_line_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    progress = Progress(every_s=1e-9)
    with caplog.at_level(logging.INFO, logger="medtrans"):
        progress.on_start(RunInfo(Path(), {}, 0, 10))
        progress.on_step(1, VALUES)
        progress.on_validation(1, {"psnr": 20.0}, [case()])
        progress.on_end(1, None)
    assert "step 1 of 10" in caplog.text
    assert "s left, l1 0.5" in caplog.text
    assert "validation on 1 cases: psnr 20" in caplog.text


def test_progress_reads_no_loss_before_it_is_due(caplog: pytest.LogCaptureFixture) -> None:
    class Unread(torch.Tensor):
        def __float__(self) -> float:
            raise AssertionError("waited for the device")

    progress = Progress(every_s=1000)
    progress.on_start(RunInfo(Path(), {}, 0, 10))
    progress.on_step(1, {"l1": torch.zeros(()).as_subclass(Unread)})
    assert not caplog.text


def test_progress_on_a_terminal_is_a_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    progress = Progress(every_s=1e-9)
    progress.on_start(RunInfo(Path(), {}, 0, 2))
    for step in (1, 2):
        progress.on_step(step, VALUES)
    progress.on_end(2, None)
    assert "2/2" in capsys.readouterr().err
