"""The rate of a generator's training step on a CPU, beside the plain formulation and the best convolution.

Everything is measured in one run, in turns, in CPU seconds of one thread: `python -m benchmarks.step_rate`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from statistics import median
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.harness.timing import alternated, processor_seconds
from medtrans import MDAUNet
from medtrans.builtin.blocks import Conv3
from medtrans.training.activation_checkpointing import recompute_blocks
from medtrans.training.build import in_channels_last

CONVOLUTIONS = tuple((channels, side) for side in (32, 48, 64, 96) for channels in (16, 32, 64))
"""Channels in and out, and sides, of the 3^3 convolutions whose best rate is the ceiling."""
GENERATORS: Mapping[str, dict[str, Any]] = {
    "paper (base 16)": {"preset": "paper"},
    "paper-wide (base 32)": {"preset": "paper-wide"},
    "fast": {"preset": "fast"},
    "tiny": {"preset": "tiny"},
}


@contextmanager
def plain_convolutions() -> Iterator[None]:
    """The formulation that ours is compared with: every 3^3 convolution as torch's own."""
    with patch.object(Conv3, "forward", nn.Conv3d.forward):
        yield


def step(generator: nn.Module, source: Tensor) -> Tensor:
    """Forward and backward of a sum over all levels; returns it."""
    generator.zero_grad()
    total = torch.stack([level.square().mean() for level in generator(source)]).sum()
    total.backward()
    return total.detach()


def variants(options: dict[str, Any], source: Tensor) -> dict[str, Callable[[], Tensor]]:
    """One generator with the same weights in each formulation."""

    def made() -> nn.Module:
        torch.manual_seed(0)
        return MDAUNet(1, 1, **options)

    reference, halves, ours, lean = (made() for _ in range(4))
    in_channels_last(ours, "auto")
    in_channels_last(lean, "auto")
    recompute_blocks(lean)

    def plainly() -> Tensor:
        with plain_convolutions():
            return step(reference, source)

    return {
        "plain": plainly,
        "halves": lambda: step(halves, source),
        "halves, channels last": lambda: step(ours, source),
        "the same, memory low": lambda: step(lean, source),
    }


def convolution(channels: int, side: int) -> Callable[[], object]:
    """Forward and backward of one 3^3 convolution."""
    image = torch.randn(1, channels, side, side, side).contiguous(memory_format=torch.channels_last_3d)
    image.requires_grad_()
    weight = torch.randn(channels, channels, 3, 3, 3, requires_grad=True)
    upstream = torch.randn(1, channels, side, side, side).contiguous(memory_format=torch.channels_last_3d)
    return lambda: torch.autograd.grad(functional.conv3d(image, weight, padding=1), (image, weight), upstream)


def in_turns(calls: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """The median CPU seconds of each call, taken in turns after one call to warm up."""
    for call in calls.values():
        call()
    timed = {name: lambda call=call: processor_seconds(call) for name, call in calls.items()}
    return {name: median(each) for name, each in alternated(timed, repeats).items()}


def work(options: dict[str, Any], source: Tensor) -> int:
    """Floating-point operations of a generator's forward and backward."""
    with FlopCounterMode(display=False) as counter, plain_convolutions():
        step(MDAUNet(1, 1, **options), source)
    return counter.get_total_flops()


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=48, help="of the patch, batch 1")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--generators", nargs="+", choices=GENERATORS, default=["paper (base 16)", "paper-wide (base 32)"]
    )
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}, 1 thread\n")
    print("| 3^3 convolution, forward + backward | GFLOP/s |\n|---|---|")
    best = 0.0
    for channels, side in CONVOLUTIONS:
        call = convolution(channels, side)
        rate = 6 * 27 * channels**2 * side**3 / in_turns({"": call}, min(given.repeats, 3))[""] / 1e9
        best = max(best, rate)
        print(f"| {channels} channels, {side}^3 | {rate:.1f} |", flush=True)
    print("\n| generator | formulation | CPU s | rate over plain | GFLOP/s | share of the best convolution |")
    print("|---|---|---|---|---|---|")
    source = torch.rand(1, 1, given.side, given.side, given.side)
    for name in given.generators:
        flops = work(GENERATORS[name], source)
        seconds = in_turns(variants(GENERATORS[name], source), given.repeats)
        for formulation, taken in seconds.items():
            rate = flops / taken / 1e9
            gain = seconds["plain"] / taken
            print(f"| {name} | {formulation} | {taken:.2f} | {gain:.2f} | {rate:.1f} | {rate / best:.2f} |", flush=True)


if __name__ == "__main__":
    main()
