"""How many independent patches a second are had: from medtrans' cache, and by TorchIO's Queue from .nii.gz.

    OMP_NUM_THREADS=1 python -m benchmarks.loader

Pairs of 96^3 from 8 subjects of 160 x 192 x 160, each patch from another volume than the one before, with 0, 1 and 2
workers; the best count of each side is compared. They take turns. Files are in the page cache, and workers have started
before time is taken. medtrans' cache is written once, before; that is not counted, and the time it took is printed.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import numpy as np
import torch
import torchio
from scipy import ndimage

from benchmarks.harness.timing import alternated
from medtrans import Case, Volume, component
from medtrans.data.cache import Cache
from medtrans.data.cohort import Member
from medtrans.data.patches import training_loader
from medtrans.data.preprocessing import Preprocessing
from medtrans.volume import write

SHAPE, SIDE = (160, 192, 160), 96


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="How many independent patches a second are had.")
    parser.add_argument("--subjects", type=int, default=8)
    parser.add_argument("--patches", type=int, default=16, help="in each turn, a multiple of 8")
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        members = write_subjects(folder, given.subjects)
        cache = written_cache(folder, members)
        sides: dict[str, Callable[[int], Iterator[torch.Tensor]]] = {
            "medtrans": lambda workers: by_medtrans(cache, members, workers),
            "torchio": lambda workers: by_torchio(folder, given.subjects, workers),
        }
        rates = {}
        for workers in range(3):
            calls = {side: lambda make=make, n=workers: rate(make(n), given.patches) for side, make in sides.items()}
            rates |= {(side, workers): found for side, found in alternated(calls, given.repeats).items()}
    print("| | 0 workers | 1 | 2 |\n|---|---|---|---|")
    for side in sides:
        print(f"| {side}, patch pairs/s | " + " | ".join(f"{median(rates[side, n]):.1f}" for n in range(3)) + " |")
    best = {side: max(median(rates[side, workers]) for workers in range(3)) for side in sides}
    print(f"best against best: {best['medtrans'] / best['torchio']:.1f} times as many")


def rate(patches: Iterator[torch.Tensor], count: int) -> float:
    """Patches a second, from the third on: TorchIO fills its queue of 8 once for every 8 of them."""
    for _ in range(2):
        next(patches)
    started = time.perf_counter()
    for patch in itertools.islice(patches, count):
        patch.sum()  # every voxel is read, as a network would
    seconds = time.perf_counter() - started
    patches.close()
    return count / seconds


def write_subjects(folder: Path, subjects: int) -> list[Member]:
    """Smooth tissue with noise, in int16 as scanners give it, in two contrasts."""
    members = []
    for number in range(1, subjects + 1):
        rng = np.random.default_rng(number)
        tissue = ndimage.zoom(rng.random([side // 8 for side in SHAPE]), 8, order=1)
        images = {}
        for name, contrast in (("t1", tissue), ("t2", 1 - tissue**2)):
            images[name] = folder / f"{number}_{name}.nii.gz"
            values = 1000 * contrast + rng.normal(0, 10, SHAPE)
            write(Volume(values.astype(np.int16), np.eye(4)), images[name])
        members.append(Member(number, Case(str(number), str(number), images), "train"))
    return members


def written_cache(folder: Path, members: list[Member]) -> Cache:
    """Prepared as a run does, once."""
    scalings = {name: component("transform", "percentile").factory() for name in ("t1", "t2")}
    cache = Cache(folder / "cache", Preprocessing(["t1"], ["t2"], scalings, crop="none"), {})
    started = time.perf_counter()
    for member in members:
        cache.prepared(member)
    print(f"cache of {len(members)} pairs written in {time.perf_counter() - started:.1f} s, once")
    return cache


def by_medtrans(cache: Cache, members: list[Member], workers: int) -> Iterator[torch.Tensor]:
    """One patch pair a batch."""
    loader = training_loader(
        cache,
        members,
        patch_size=(SIDE,) * 3,
        per_volume=1,
        foreground=0.1,
        seed=0,
        batch=1,
        steps=10**6,
        workers=workers,
    )
    for batch in loader:
        yield torch.cat([batch.source, batch.target])


def by_torchio(folder: Path, subjects: int, workers: int) -> Iterator[torch.Tensor]:
    """One sample a volume, so that patches are as independent as medtrans'; a queue of 8."""
    paths = [
        torchio.Subject(
            t1=torchio.ScalarImage(folder / f"{number}_t1.nii.gz"),
            t2=torchio.ScalarImage(folder / f"{number}_t2.nii.gz"),
        )
        for number in range(1, subjects + 1)
    ]
    while True:
        queue = torchio.Queue(
            torchio.SubjectsDataset(paths * 32),
            max_length=8,
            samples_per_volume=1,
            sampler=torchio.UniformSampler(SIDE),
            num_workers=workers,
            verbose=False,
        )
        for batch in torchio.SubjectsLoader(queue, batch_size=1, num_workers=0):
            yield torch.cat([batch["t1"][torchio.DATA], batch["t2"][torchio.DATA]])


if __name__ == "__main__":
    main()
