"""What it brings on a CPU to translate several windows at a time: four windows in ones, twos and fours.

    OMP_NUM_THREADS=1 python -m benchmarks.window_batches

In turns, processor time, medians of three. Needs `medtrans-monai` and `medtrans-ptnet3d`.
"""

from __future__ import annotations

from statistics import median
from typing import Any

import torch

from benchmarks.harness.timing import alternated, processor_seconds
from medtrans import component
from medtrans.training.build import in_channels_last

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

    def translate(batch: int) -> None:
        for some in windows.split(batch):
            network(some)

    with torch.no_grad():
        network(windows[:1])
        calls = {str(batch): lambda batch=batch: processor_seconds(lambda: translate(batch)) for batch in BATCHES}
        return [median(several) for several in alternated(calls, REPEATS).values()]


if __name__ == "__main__":
    main()
