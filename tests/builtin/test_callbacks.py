"""Progress and TensorBoard watch a run and change nothing."""

from __future__ import annotations

import errno
import json
import logging
import re
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import medtrans
from medtrans import Callback, RunInfo, Scored, TrainingError
from medtrans.builtin.callbacks import Progress, TensorBoard
from medtrans.training.watchers import contained

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


def test_progress_without_a_terminal_is_a_line_each_half_minute_and_the_first_soon(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, *(float(2 * step) for step in range(1, 101))])
    monkeypatch.setattr("medtrans.builtin.callbacks.time.monotonic", lambda: next(clock))
    progress = Progress()
    with caplog.at_level(logging.INFO, logger="medtrans"):
        progress.on_start(RunInfo(Path(), {}, 0, 9200))
        for step in range(1, 101):
            progress.on_step(step, VALUES)
        progress.on_validation(100, {"psnr": 20.0}, [case()])
        progress.on_end(100, None)
    lines = [record.getMessage() for record in caplog.records]
    assert [int(re.findall(r"step (\d+) of 9200,", line)[0]) for line in lines[:-1]] == [3, 18, 33, 48, 63, 78, 93]
    assert lines[0] == "step 3 of 9200, 2 s a step, 5 h 07 min left, l1 0.5"
    assert lines[-1] == "step 100: validation on 1 cases: psnr 20"


def test_progress_reads_no_loss_before_it_is_due(caplog: pytest.LogCaptureFixture) -> None:
    class Unread(torch.Tensor):
        def __float__(self) -> float:
            raise AssertionError("waited for the device")

    progress = Progress(every_s=1000)
    progress.on_start(RunInfo(Path(), {}, 0, 10))
    progress.on_step(1, {"l1": torch.zeros(()).as_subclass(Unread)})
    assert not caplog.text


MANY = {
    "discriminator": torch.tensor(0.555),
    "discriminator_accuracy": torch.tensor(1.0),
    "discriminator_gradient_norm": torch.tensor(123456.0),
    "a_loss_with_quite_a_long_name": torch.tensor(0.123456),
    "another_loss_with_quite_a_long_name": torch.tensor(0.123456),
    "generator": torch.tensor(0.25),
    "learning_rate": torch.tensor(0.1),
}


@pytest.mark.parametrize(("width", "scalars"), [(60, 0), (80, 1), (120, 2), (160, 3)])
def test_progress_on_a_terminal_is_a_bar_with_step_rate_and_time_left_and_the_scalars_that_fit(
    width: int, scalars: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(width))
    progress = Progress(every_s=1e-9)
    progress.on_start(RunInfo(Path(), {}, 0, 200_000))
    for step in (1, 2):
        progress.on_step(step, MANY)
    progress.on_end(2, None)
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", capsys.readouterr().err).splitlines()
    last = next(line for line in reversed(shown) if line.strip())
    assert len(last.rstrip()) <= width
    assert re.search(r"[━╸╺]{10} 2/200000 \S+ (steps/s|s a step), \S.* left", last)
    assert len(re.findall(r"(generator|long_name) [0-9.]+", last)) == scalars
    assert "…" not in last


class Broken(Progress):
    """Fails where it is asked to."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.where, self.ended = where, 0

    def on_start(self, run: RunInfo) -> None:
        self._fail("on_start")

    def on_step(self, step: int, values: Mapping[str, torch.Tensor]) -> None:
        self._fail("on_step")

    def on_end(self, step: int, error: BaseException | None) -> None:
        self.ended += 1
        self._fail("on_end")

    def _fail(self, here: str) -> None:
        if here == self.where:
            raise TypeError("Descriptors cannot be created directly.\nIf this call came from a _pb2.py file")


@pytest.mark.parametrize("where", ["on_start", "on_step", "on_end"])
def test_a_watcher_that_fails_is_left_out_with_one_warning(where: str, caplog: pytest.LogCaptureFixture) -> None:
    watcher = Broken(where)
    fenced = contained("board", watcher)
    fenced.on_start(RunInfo(Path(), {}, 0, 2))
    for step in (1, 2):
        fenced.on_step(step, VALUES)
    fenced.on_end(2, None)
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "callbacks.board failed (TypeError: Descriptors cannot be created directly.)" in warning
    assert watcher.ended >= 1


def test_a_callback_that_may_stop_a_run_is_not_kept_from_it() -> None:
    class Stops(Callback):
        def on_step(self, step: int, values: Mapping[str, torch.Tensor]) -> None:
            raise TrainingError("enough")

    with pytest.raises(TrainingError, match="enough"):
        contained("mine", Stops()).on_step(1, VALUES)


def test_tensorboard_on_a_full_disk_is_a_warning_without_a_traceback(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Its thread writes, and fails in its own time."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    before, board = threading.excepthook, contained("tensorboard", TensorBoard(every=1))
    board.on_start(RunInfo(tmp_path, {}, 0, 100))
    monkeypatch.setattr("tensorboard.summary.writer.record_writer.RecordWriter.write", full)
    for step in range(1, 100):
        board.on_step(step, VALUES)
        board.on_validation(step, {"psnr": 20.0}, [case()])
    board.on_end(100, None)
    assert "No space left on device" in caplog.text
    assert len(caplog.records) == 1
    assert capsys.readouterr().err.count("Traceback") == 0
    assert threading.excepthook is before


def test_a_run_on_a_terminal_keeps_lines_apart_and_goes_on_without_a_tensorboard_that_cannot_be_imported(
    tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "120")
    folder = medtrans.run(tiny)
    assert json.loads(folder.status.read_text())["state"] == "done"
    assert "callbacks.tensorboard failed" in folder.log.read_text()
    shown = re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", capsys.readouterr().err))
    assert shown[0].startswith("t1 to t2 on ")
    assert [line for line in shown if "validation on" in line and not line.startswith("step")] == []
    assert any(line.startswith("step 2: validation on 1 cases: psnr") for line in shown)
