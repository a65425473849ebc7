"""What the device can do at most: a matrix product, a convolution, a copy, in the run's precision."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.nn import functional

from benchmarks.harness.timing import Clock, Spread

__all__ = ["Ceilings", "computing_type", "measure_ceilings"]

_REPEATS = 5
_WARM = 2


@dataclass(frozen=True)
class Ceilings:
    """Rates that nothing on this device exceeds by much.

    Args:
        matrix_product: operations in a second.
        convolution: the same, of the best 3^3 convolution out of several.
        convolution_of: which one that was.
        copy: bytes read and written in a second.
        precision: the type that was computed in.
    """

    matrix_product: Spread
    convolution: Spread
    convolution_of: str
    copy: Spread
    precision: str

    @property
    def best(self) -> float:
        """The higher of the two rates of operations."""
        return max(self.matrix_product.median, self.convolution.median)

    def as_data(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "precision": self.precision,
            "matrix_product_flops_per_s": self.matrix_product.as_data(),
            "convolution_flops_per_s": self.convolution.as_data(),
            "convolution_of": self.convolution_of,
            "copy_bytes_per_s": self.copy.as_data(),
        }


def computing_type(precision: str) -> torch.dtype:
    """What convolutions are computed in under one of Fabric's precisions."""
    kinds = {"bf16": torch.bfloat16, "16": torch.float16, "64": torch.float64}
    return kinds.get(precision.partition("-")[0], torch.float32)


def measure_ceilings(device: torch.device, dtype: torch.dtype) -> Ceilings:
    """Measure all of them; a second or two.

    Args:
        device: that computes.
        dtype: that it computes in.
    """
    clock, large = Clock(device), device.type == "cuda"
    side = 8192 if large else 1024
    one, other = (torch.rand(side, side, device=device).to(dtype) for _ in range(2))
    product = _timed(clock, lambda: one @ other).per(2 * side**3)
    words = (1 << 27) if large else (1 << 25)
    copy = _copied(clock, device, words)
    convolutions = {
        text: rate for shape in _shapes(large=large) for text, rate in _convolutions(clock, device, dtype, *shape)
    }
    best = max(convolutions, key=lambda text: convolutions[text].median)
    return Ceilings(product, convolutions[best], best, copy, str(dtype).removeprefix("torch."))


def _copied(clock: Clock, device: torch.device, words: int) -> Spread:
    here, there = (torch.empty(words, device=device) for _ in range(2))
    return _timed(clock, lambda: there.copy_(here)).per(2 * 4 * words)


def _shapes(*, large: bool) -> tuple[tuple[int, int], ...]:
    """Channels, and voxels along a side."""
    return ((64, 96), (128, 64), (256, 48)) if large else ((16, 48), (32, 32), (64, 24))


def _convolutions(
    clock: Clock, device: torch.device, dtype: torch.dtype, channels: int, side: int
) -> list[tuple[str, Spread]]:
    found = []
    for layout in (torch.contiguous_format, torch.channels_last_3d):
        image = torch.rand(1, channels, side, side, side, device=device).to(dtype).contiguous(memory_format=layout)
        weight = torch.rand(channels, channels, 3, 3, 3, device=device).to(dtype).contiguous(memory_format=layout)
        done = 2 * 27 * channels**2 * side**3
        with torch.no_grad():
            rate = _timed(clock, partial(functional.conv3d, image, weight, padding=1)).per(done)
        text = f"{channels} channels at {side}^3, {str(layout).removeprefix('torch.')}"
        found.append((text, rate))
    return found


def _timed(clock: Clock, do: Callable[[], object]) -> Spread:
    for _ in range(_WARM):
        do()
    return Spread.of([clock.of(do) for _ in range(_REPEATS)])
