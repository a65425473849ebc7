"""What memory cannot hold is refused before it is taken; where it runs out after all, a message says what to lower."""

from __future__ import annotations

import errno
from typing import Any

import numpy as np
import pytest
import torch

import medtrans
from medtrans import SetupError, TrainingError
from medtrans.builtin.methods.paired import PairedMethod
from medtrans.utils.memory import memory_faults

TOO_LARGE = {
    "patch.size=[100000, 100000, 100000]": "patch.size",
    "train.batch=1000000000": "train.batch",
    "train.accumulate=1000000000": "train.batch",
    "inference.window=[100000, 100000, 100000]": "inference.window",
    "generator={name: unet, options: {width: 1000000000}}": "generator",
    "generator={name: unet, options: {width: 100000, levels: 1}}": "generator",
    "generator={name: unet, options: {levels: 60, width: 2}}": "generator",
    "discriminator={name: patchgan, options: {width: 1000000000}}": "discriminator",
}


@pytest.mark.parametrize("override", TOO_LARGE)
def test_what_no_memory_holds_is_refused(override: str, tiny: dict[str, Any]) -> None:
    with pytest.raises(SetupError, match=TOO_LARGE[override]):
        medtrans.run(tiny, [override])


def test_a_check_says_what_no_memory_holds(tiny: dict[str, Any]) -> None:
    report = medtrans.check(tiny, ["train.batch=1000000000"])
    assert report.exit_code == SetupError.exit_code
    assert any("train.batch" in fault for fault in report.faults)


def test_a_step_that_keeps_more_than_is_free_is_refused(tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch fits in five times; what a network keeps of it for its backward pass does not."""
    monkeypatch.setattr("medtrans.utils.memory.free_memory", lambda: 5 * 4 * 2 * 32**3 * tiny["train"]["batch"])
    with pytest.raises(SetupError, match=r"train\.memory=low"):
        medtrans.run(tiny, ["patch.size=[32, 32, 32]"])


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        np._core._exceptions._ArrayMemoryError((1 << 40,), np.dtype("float32")),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("Storage size calculation overflowed with sizes=[1, 2]"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        ValueError("array is too big; `arr.size * arr.dtype.itemsize` is larger than the maximum possible size."),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_running_out_of_memory_is_one_fault_with_what_to_lower(error: Exception) -> None:
    with pytest.raises(TrainingError) as caught, memory_faults("training", "lower patch.size"):
        raise error
    assert len(caught.value.faults) == 1
    assert caught.value.faults[0].startswith("training: memory ran out")
    assert caught.value.faults[0].endswith("lower patch.size")


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), ValueError("no"), OSError(errno.ENOSPC, "full")])
def test_other_errors_stay_what_they_are(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, memory_faults("training", "lower patch.size"):
        raise error
    assert caught.value is error


def out_of_memory(*_: object, **__: object) -> Any:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")


@pytest.mark.parametrize(
    ("where", "named"), [("training_step", "train.batch=1 and train.accumulate=2"), ("translate", "inference.window")]
)
def test_a_run_that_runs_out_of_memory_says_what_to_lower(
    where: str, named: str, tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PairedMethod, where, out_of_memory)
    with pytest.raises(TrainingError) as caught:
        medtrans.run(tiny, ["train.steps=1", "train.validate_every=1"])
    assert any(named in fault for fault in caught.value.faults)


def test_a_check_that_runs_out_of_memory_says_what_to_lower(
    tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PairedMethod, "training_step", out_of_memory)
    report = medtrans.check(tiny)
    assert report.exit_code == TrainingError.exit_code
    assert any("memory ran out" in fault for fault in report.faults)
