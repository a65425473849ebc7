"""The translation of as many windows at a time as the device has memory for."""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch
from torch import Tensor

from medtrans.errors import SetupError

__all__ = ["AutoBatch"]


_log = logging.getLogger("medtrans")
_SPARE = 0.1  # of a device's free memory: its allocator cannot use all of it, and other programs take some


class AutoBatch:
    """Translates a batch of windows in parts where the whole does not fit into the device's memory.

    On a GPU the first batch of several windows is begun with one, and what that took says how many fit. Where memory
    runs out all the same, half as many are taken from then on. Both are remembered, so that a later volume begins with
    what fitted. The result does not depend on it, but for the rounding of a GPU's kernels.

    Args:
        translate: from `(b, c, i, j, k)` to as many, on `device`.
        device: where `translate` works.

    Attributes:
        device: as given.
        most: windows translated at a time; None as many as are asked for.
    """

    def __init__(self, translate: Callable[[Tensor], Tensor], device: torch.device) -> None:
        self._translate = translate
        self.device = device
        self.most: int | None = None

    def __call__(self, windows: Tensor) -> Tensor:
        """Translate windows `(b, c, i, j, k)`.

        Raises:
            SetupError: there is not enough memory for one.
        """
        done: list[Tensor] = []
        refused = 0
        if self.most is None and len(windows) > 1 and self.device.type == "cuda":
            done.append(self._tried(windows[:1]))
        while (first := sum(map(len, done))) < len(windows):
            part = windows[first : first + (self.most or len(windows))]
            if (output := self._attempt(part)) is not None:
                done.append(output)
                continue
            refused = refused or len(part)
            self._halve(part)
        if refused:
            _log.warning(
                "%d windows of %s voxels do not fit into the device's memory: going on with %d at a time; "
                "inference.batch=%d avoids the attempt",
                refused,
                _sides(windows),
                self.most,
                self.most,
            )
        return done[0] if len(done) == 1 else torch.cat(done)

    def _attempt(self, windows: Tensor) -> Tensor | None:
        """None where memory ran out; only behind the `except` are the tensors of the attempt free again."""
        try:
            return self._translate(windows)
        except torch.OutOfMemoryError:
            return None

    def _tried(self, window: Tensor) -> Tensor:
        """One window's translation, by whose peak of memory the number that fits is chosen."""
        device = self.device
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        if (output := self._attempt(window)) is None:
            raise _too_large(window)
        peak = max(1, torch.cuda.max_memory_allocated(device) - before)
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        free = torch.cuda.mem_get_info(device)[0] + held
        self.most = max(1, int((1 - _SPARE) * free / peak))
        _log.debug("one window takes %d bytes, %d are free: up to %d at a time", peak, free, self.most)
        return output

    def _halve(self, windows: Tensor) -> None:
        if len(windows) == 1:
            raise _too_large(windows)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self.most = len(windows) // 2


def _too_large(windows: Tensor) -> SetupError:
    return SetupError(
        f"the device's memory is too small for one window of {_sides(windows)} voxels; set inference.window to smaller "
        "sides, free memory that other programs hold, or translate on the CPU (with CUDA_VISIBLE_DEVICES empty)"
    )


def _sides(windows: Tensor) -> str:
    return " × ".join(str(side) for side in windows.shape[2:])
