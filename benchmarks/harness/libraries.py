"""The comparison with other libraries' loaders and windows, on the same prepared volumes: MONAI and TorchIO."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.harness.loader import timed_patches
from benchmarks.harness.subject import Subject
from benchmarks.harness.timing import Clock, Spread
from medtrans.data.preprocessing import Prepared

__all__ = ["compare_monai", "compare_torchio", "unless_missing"]

_REPEATS = 3
_QUEUE = 32
"""Patches in TorchIO's queue, at least."""


def unless_missing(module: str, compare: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The comparison, or a message where the library is not installed."""
    if find_spec(module) is None:
        return {"left_out": f"{module} is not installed; pip install {module}"}
    return compare()


def compare_monai(subject: Subject, ours: dict[str, Any]) -> dict[str, Any]:
    """The rates of MONAI's cached loader and sliding window beside ours.

    Args:
        subject: the config.
        ours: our patches in a second, our window, and seconds around the windows of a volume.
    """
    return _compared(ours, _monai_patches(subject), _monai_windows(subject, ours["window"]))


def compare_torchio(subject: Subject, ours: dict[str, Any]) -> dict[str, Any]:
    """The rates of TorchIO's queue of patches and grid of windows beside ours.

    Args:
        subject: the config.
        ours: our patches in a second, our window, and seconds around the windows of a volume.
    """
    with tempfile.TemporaryDirectory(prefix="medtrans-bench-") as folder:
        return _compared(ours, _torchio_patches(subject, Path(folder)), _torchio_windows(subject, ours["window"]))


def _compared(ours: dict[str, Any], sizes_of_batches: Iterator[int], windows: Callable[[], object]) -> dict[str, Any]:
    """Their rates, and how many times ours are better."""
    patches_per_s, _ = timed_patches(sizes_of_batches, skip=1)
    windows()
    clock = Clock(torch.device("cpu"))
    seconds = Spread.of([clock.of(windows) for _ in range(_REPEATS)])
    return {
        "patches_per_s": patches_per_s,
        "window_seconds": seconds.as_data(),
        "ratios": {
            "loader": ours["patches_per_s"] / patches_per_s,
            "windows": seconds.median / ours["window_seconds"],
        },
    }


def _volumes(subject: Subject) -> list[Prepared]:
    """The training cases as networks see them."""
    return [subject.data.cache.prepared(member) for member in subject.data.cohort.of("train")]


def _monai_patches(subject: Subject) -> Iterator[int]:
    """Sizes of batches of random crops from volumes that are kept in memory."""
    data: Any = import_module("monai.data")
    transforms: Any = import_module("monai.transforms")

    config = subject.experiment.config
    kept = [
        {"source": torch.from_numpy(one.source.copy()), "target": torch.from_numpy(one.target.copy())}
        for one in _volumes(subject)
        if one.target is not None
    ]
    crop = transforms.RandSpatialCropSamplesd(["source", "target"], config.patch.size, 1, random_size=False)
    dataset = data.CacheDataset(kept, crop, progress=False)
    while True:
        loader = data.DataLoader(
            dataset,
            batch_size=config.train.batch,
            shuffle=True,
            num_workers=config.train.workers,
            collate_fn=data.list_data_collate,
        )
        for one in loader:
            yield len(one["source"])


def _monai_windows(subject: Subject, sides: Sequence[int]) -> Callable[[], object]:
    """Passes a volume's windows through a network that does nothing."""
    inferers: Any = import_module("monai.inferers")

    prepared = subject.data.cache.prepared(subject.volume)
    settings = subject.translator.windows(prepared.grid.shape)
    image = torch.from_numpy(prepared.source.copy())[None]
    return lambda: inferers.sliding_window_inference(
        image,
        sides,
        settings["batch"],
        lambda windows: windows[:, :1],
        overlap=settings["overlap"],
        mode=settings["blend"],
    )


def _torchio_patches(subject: Subject, folder: Path) -> Iterator[int]:
    """Sizes of batches from a queue over compressed files, the way TorchIO's documentation shows it."""
    torchio: Any = import_module("torchio")

    patch = subject.experiment.config.patch
    subjects = []
    for index, prepared in enumerate(_volumes(subject)):
        images = {}
        for name, array in (("source", prepared.source), ("target", prepared.target)):
            path = folder / f"{index}_{name}.nii.gz"
            torchio.ScalarImage(tensor=torch.from_numpy(np.array(array)), affine=prepared.grid.affine).save(path)
            images[name] = torchio.ScalarImage(path)
        subjects.append(torchio.Subject(images))
    queue = torchio.Queue(
        torchio.SubjectsDataset(subjects),
        max_length=max(_QUEUE, patch.per_volume),
        samples_per_volume=patch.per_volume,
        sampler=torchio.UniformSampler(patch.size),
        num_workers=subject.experiment.config.train.workers,
    )
    batch = subject.experiment.config.train.batch
    while True:
        for one in torchio.SubjectsLoader(queue, batch_size=batch, num_workers=0):
            yield len(one["source"]["data"])


def _torchio_windows(subject: Subject, sides: Sequence[int]) -> Callable[[], object]:
    """Passes a volume's windows through a network that does nothing."""
    torchio: Any = import_module("torchio")

    prepared = subject.data.cache.prepared(subject.volume)
    settings = subject.translator.windows(prepared.grid.shape)
    image = torch.from_numpy(prepared.source.copy())
    overlap = tuple(int(side * settings["overlap"]) // 2 * 2 for side in sides)
    small = any(side > extent for side, extent in zip(sides, image.shape[1:], strict=True))

    def once() -> None:
        whole = torchio.Subject(source=torchio.ScalarImage(tensor=image))
        sampler = torchio.GridSampler(whole, tuple(sides), overlap, padding_mode=0 if small else None)
        aggregator = torchio.GridAggregator(sampler, overlap_mode="hann")
        for batch in torchio.SubjectsLoader(sampler, batch_size=settings["batch"]):
            aggregator.add_batch(batch["source"]["data"][:, :1], batch["location"])
        aggregator.get_output_tensor()

    return once
