"""What windows cost beside the network: whole volumes by medtrans, MONAI and TorchIO.

    OMP_NUM_THREADS=1 python -m benchmarks.whole_volume              512 x 512 x 300, an identity for a network
    OMP_NUM_THREADS=1 python -m benchmarks.whole_volume --network    64^3 by mdaunet `fast`, against its bare windows

Windows of 96^3 that overlap by a quarter, one at a time. medtrans and MONAI blend by the same Gaussian; TorchIO has
none and blends by Hann, as costly. Variants take turns in one process; each one's memory is that of a process of its
own.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import product
from statistics import median

import torch
from torch import Tensor

from benchmarks.harness.anonymous_memory import AnonymousPeak
from benchmarks.harness.timing import alternated, processor_seconds
from medtrans import component
from medtrans.inference.sliding_window import sliding_window
from medtrans.types import as_pyramid

SIDE, OVERLAP = 96, 0.25


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="What windows cost beside the network.")
    parser.add_argument("--shape", type=int, nargs=3, default=[512, 512, 300])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--network", action="store_true", help="time a real network instead")
    parser.add_argument("--memory-of", choices=VARIANTS, help="(a child of this script)")
    given = parser.parse_args()
    if given.memory_of:
        print_memory(VARIANTS[given.memory_of], volume(given.shape))
    elif given.network:
        compare_network(given.repeats)
    else:
        compare(given.shape, given.repeats)


def volume(shape: list[int]) -> Tensor:
    """Noise."""
    return torch.rand(1, 1, *shape, generator=torch.Generator().manual_seed(0))


def by_medtrans(source: Tensor) -> Tensor:
    """Ours."""
    return sliding_window(
        identity, source, window=(SIDE,) * 3, overlap=OVERLAP, blend="gaussian", batch=1, multiple=(1, 1, 1)
    )


def by_monai(source: Tensor) -> Tensor:
    """MONAI's."""
    from monai.inferers import sliding_window_inference

    # It multiplies what it gets in place: an identity would hand it the source itself, which no network does.
    return sliding_window_inference(source, (SIDE,) * 3, 1, torch.clone, OVERLAP, mode="gaussian", sigma_scale=0.125)


def by_torchio(source: Tensor) -> Tensor:
    """TorchIO's."""
    import torchio

    sampler = torchio.inference.GridSampler(
        torchio.Subject(image=torchio.ScalarImage(tensor=source[0])), SIDE, int(SIDE * OVERLAP)
    )
    aggregator = torchio.inference.GridAggregator(sampler, overlap_mode="hann")
    for batch in torchio.SubjectsLoader(sampler, batch_size=1):
        aggregator.add_batch(identity(batch["image"][torchio.DATA]), batch[torchio.LOCATION])
    return aggregator.get_output_tensor()[None]


def identity(windows: Tensor) -> Tensor:
    """No network at all."""
    return windows


VARIANTS: dict[str, Callable[[Tensor], Tensor]] = {"medtrans": by_medtrans, "monai": by_monai, "torchio": by_torchio}


def compare(shape: list[int], repeats: int) -> None:
    """Wall and processor seconds in turns, then memory."""
    source = volume(shape)
    wall: dict[str, list[float]] = {name: [] for name in VARIANTS}
    busy: dict[str, list[float]] = {name: [] for name in VARIANTS}
    for turn in range(repeats + 1):
        for name, translate in VARIANTS.items():
            started, worked = time.perf_counter(), time.process_time()
            result = translate(source)
            if turn:  # the first turn warms up
                wall[name].append(time.perf_counter() - started)
                busy[name].append(time.process_time() - worked)
            else:
                print(f"{name}: largest difference from the source {float((result - source).abs().max()):.1e}")
            del result
    size = source.numel() * 4
    del source
    print(
        "| | wall s | medtrans / it | processor s | medtrans / it | extra memory, volumes |\n|---|---|---|---|---|---|"
    )
    for name in VARIANTS:
        extra = memory_of(name, shape) / size
        print(
            f"| {name} | {median(wall[name]):.3f} | {ratio(wall, name):.2f} | {median(busy[name]):.3f} "
            f"| {ratio(busy, name):.2f} | {extra:.2f} |"
        )


def ratio(seconds: dict[str, list[float]], name: str) -> float:
    """Of medians."""
    return median(seconds["medtrans"]) / median(seconds[name])


def memory_of(name: str, shape: list[int]) -> int:
    """Bytes a variant takes beyond the source, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.whole_volume", "--memory-of", name, "--shape", *map(str, shape)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def print_memory(translate: Callable[[Tensor], Tensor], source: Tensor) -> None:
    """After a small volume, so that imports do not count."""
    translate(source[:, :, :100, :100, :100].contiguous())
    with AnonymousPeak() as memory:
        translate(source)
    print(memory.peak - memory.before)


def compare_network(repeats: int) -> None:
    """The whole of a volume against the network alone on the same windows."""
    torch.manual_seed(0)
    network = component("generator", "mdaunet").factory(1, 1, preset="fast").eval()
    source = volume([64, 64, 64])
    side, starts = 32, range(0, 33, 16)
    windows = [source[:, :, i : i + side, j : j + side, k : k + side].clone() for i, j, k in product(starts, repeat=3)]

    def translate(window: Tensor) -> Tensor:
        with torch.no_grad():
            return as_pyramid(network(window))[0]

    def translate_windows() -> None:
        for window in windows:
            translate(window)

    def translate_volume() -> None:
        sliding_window(
            translate, source, window=(side,) * 3, overlap=0.5, blend="gaussian", batch=1, multiple=(8, 8, 8)
        )

    translate_windows()
    translate_volume()
    taken = alternated(
        {"network": lambda: processor_seconds(translate_windows), "all": lambda: processor_seconds(translate_volume)},
        repeats,
    )
    alone, whole = (median(seconds) for seconds in taken.values())
    print(f"{len(windows)} windows: network {alone:.2f} s, whole volume {whole:.2f} s, ratio {whole / alone:.3f}")


if __name__ == "__main__":
    main()
