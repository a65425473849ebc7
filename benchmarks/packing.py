"""Owns what compressed images cost: time and size beside Python's gzip at the same level.

    python benchmarks/packing.py

1 MiB of each kind of voxels (labels less), in turns, processor time, medians of seven.
"""

from __future__ import annotations

import gzip
import io
import time
from collections.abc import Callable
from statistics import median

import numpy as np

from medtrans import component
from medtrans.gzip_writer import GzipWriter

REPEATS = 7


def main() -> None:
    """Measure and print."""
    print("| voxels | time | size |\n|---|---|---|")
    for name, volume in kinds().items():
        data = volume.tobytes(order="F")
        ours, theirs = timed(lambda data=data: packed(data), lambda data=data: gzip.compress(data, 1, mtime=0))
        print(f"| {name} | {ours / theirs:.2f} | {len(packed(data)) / len(gzip.compress(data, 1)):.2f} |")


def kinds() -> dict[str, np.ndarray]:
    """A head of the phantom with noise, and what differs from it in how it repeats."""
    head = component("dataset", "phantom").factory(subjects=1, size=(64, 64, 64)).cases()[0].images["t2"]().data
    noisy = (head + np.random.default_rng(0).normal(0, 5, head.shape)).clip(0).astype("<f4")
    return {
        "a noisy head, float32": noisy,
        "noise on a background of -1000.3, float32": np.where(head < 0.05 * head.max(), -1000.3, noisy).astype("<f4"),
        "a noisy head, int16": np.round(noisy).astype("<i2"),
        "one value, float32": np.full(head.shape, 3.7, "<f4"),
        "slices of 16 KiB, each three times": np.repeat(noisy[:, :, :22], 3, axis=2),
    }


def packed(data: bytes) -> bytes:
    """By medtrans."""
    file = io.BytesIO()
    writer = GzipWriter(file)
    writer.write(data)
    writer.close()
    return file.getvalue()


def timed(*packers: Callable[[], bytes]) -> list[float]:
    """The median processor time of each."""
    taken: list[list[float]] = [[] for _ in packers]
    for _ in range(REPEATS):
        for pack, seconds in zip(packers, taken, strict=True):
            begun = time.process_time()
            pack()
            seconds.append(time.process_time() - begun)
    return [median(seconds) for seconds in taken]


if __name__ == "__main__":
    main()
