"""Owns what it brings on a CPU to translate several windows at a time: four windows in ones, twos and fours.

    OMP_NUM_THREADS=1 python benchmarks/window_batches.py

In turns, processor time, medians of three. Needs `medtrans-monai` and `medtrans-ptnet3d`.
"""

from __future__ import annotations

import time
from statistics import median
from typing import Any

import torch

from medtrans import component
from medtrans.channel_order import in_channels_last

WINDOWS, REPEATS = 4, 3
BATCHES = (1, 2, 4)
UNET = {"channels": [16, 32, 64, 128], "strides": [2, 2, 2], "num_res_units": 2}
NETWORKS: tuple[tuple[str, dict[str, Any], int], ...] = (
    ("monai:unet", UNET, 48),
    ("mdaunet", {"preset": "fast"}, 32),
    ("ptnet3d:ptnet3d", {}, 32),
    ("mdaunet", {"preset": "fast"}, 64),
    ("unet", {}, 64),
    ("mdaunet", {"preset": "paper"}, 48),
)


def main() -> None:
    """Measure and print."""
    print("| generator, window | " + " | ".join(map(str, BATCHES[1:])) + " |\n|---|---|---|")
    for name, options, side in NETWORKS:
        torch.manual_seed(0)
        network = component("generator", name).factory(in_channels=1, out_channels=1, **options).eval()
        in_channels_last(network, "auto")
        one, *others = seconds(network, torch.rand(WINDOWS, 1, side, side, side))
        shares = " | ".join(f"{other / one:.2f}" for other in others)
        called = f"{name} {options.get('preset', '')}".strip()
        print(f"| {called}, {side}^3 | {shares} |", flush=True)


def seconds(network: torch.nn.Module, windows: torch.Tensor) -> list[float]:
    """By batch, the median for all windows."""
    taken: dict[int, list[float]] = {batch: [] for batch in BATCHES}
    with torch.no_grad():
        network(windows[:1])
        for _ in range(REPEATS):
            for batch in BATCHES:
                begun = time.process_time()
                for some in windows.split(batch):
                    network(some)
                taken[batch].append(time.process_time() - begun)
    return [median(one) for one in taken.values()]


if __name__ == "__main__":
    main()
