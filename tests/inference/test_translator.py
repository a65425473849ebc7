"""Where a device's memory runs out, fewer windows are translated at a time and the result is the same."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from medtrans.errors import SetupError
from medtrans.inference.sliding_window import sliding_window
from medtrans.inference.translator import AutoBatch

CPU = torch.device("cpu")


class Device:
    """Has memory for `room` windows, and counts how many it was asked for at a time."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.asked: list[int] = []

    def translate(self, windows: Tensor) -> Tensor:
        self.asked.append(len(windows))
        if len(windows) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return windows * 2


def _translated(translate: Callable[[Tensor], Tensor], source: Tensor, batch: int, side: int = 8) -> Tensor:
    asked = {"window": (side,) * 3, "overlap": 0.5, "blend": "gaussian", "batch": batch, "multiple": (1, 1, 1)}
    return sliding_window(translate, source, **asked)


def test_the_batch_is_halved_until_it_fits_and_stays_so(caplog: pytest.LogCaptureFixture) -> None:
    source = torch.rand(1, 1, 24, 16, 8)  # 5 * 3 windows
    device = Device(room=3)
    translate = AutoBatch(device.translate, CPU)
    with caplog.at_level(logging.WARNING, "medtrans"):
        result = _translated(translate, source, batch=8)
        assert device.asked == [8, 4, 2, 2, 2, 2, 2, 2, 2, 1]
        torch.testing.assert_close(result, source * 2)
        device.asked.clear()
        torch.testing.assert_close(_translated(translate, source, batch=8), source * 2)
    assert max(device.asked) == 2, "the next volume begins with what fitted"
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith("8 windows of 8 × 8 × 8 voxels")


def test_one_window_that_does_not_fit_ends_with_what_to_do() -> None:
    translate = AutoBatch(Device(room=0).translate, CPU)
    with pytest.raises(SetupError, match=r"inference\.window"):
        _translated(translate, torch.rand(1, 1, 8, 8, 8), batch=4)


def test_other_faults_are_not_taken_for_a_lack_of_memory() -> None:
    def broken(windows: Tensor) -> Tensor:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        _translated(AutoBatch(broken, CPU), torch.rand(1, 1, 8, 8, 8), batch=4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_with_little_memory_takes_as_many_windows_as_fit(caplog: pytest.LogCaptureFixture) -> None:
    device = torch.device("cuda", torch.cuda.current_device())
    source = torch.rand(1, 1, 160, 64, 64)

    def translate(windows: Tensor) -> Tensor:
        return torch.stack([windows.to(device)] * 64).mean(0)

    plain = _translated(translate, source, batch=1, side=64)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(device).total_memory
    taken = total - torch.cuda.mem_get_info(device)[0]
    torch.cuda.set_per_process_memory_fraction((taken + 2**28) / total, device)
    try:
        bounded = AutoBatch(translate, device)
        result = _translated(bounded, source, batch=64, side=64)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)
    assert (result - plain).abs().max() <= 1e-5
    assert bounded.most is not None
