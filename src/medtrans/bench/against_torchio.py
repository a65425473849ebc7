"""Owns the comparison with TorchIO's queue of patches and its grid of windows, on the same prepared volumes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medtrans.bench.clock import Clock
from medtrans.bench.others import MOST, REPEATS, compared, rate, volumes
from medtrans.bench.spread import Spread
from medtrans.bench.subject import Subject

__all__ = ["compare_torchio"]


def compare_torchio(subject: Subject, ours: dict[str, Any]) -> dict[str, Any]:
    """TorchIO's rates beside ours.

    Args:
        subject: the config.
        ours: our patches in a second, our window, and seconds around the windows of a volume.
    """
    with tempfile.TemporaryDirectory(prefix="medtrans-bench-") as folder:
        loader = rate(_patches(subject, Path(folder)))
    return compared(ours, loader, _windows(subject, ours["window"]))


def _patches(subject: Subject, folder: Path) -> Iterator[int]:
    """Sizes of batches from a queue over compressed files, the way TorchIO's documentation shows it."""
    torchio: Any = import_module("torchio")

    patch = subject.experiment.config.patch
    subjects = []
    for index, prepared in enumerate(volumes(subject)):
        images = {}
        for name, array in (("source", prepared.source), ("target", prepared.target)):
            path = folder / f"{index}_{name}.nii.gz"
            torchio.ScalarImage(tensor=torch.from_numpy(np.array(array)), affine=prepared.grid.affine).save(path)
            images[name] = torchio.ScalarImage(path)
        subjects.append(torchio.Subject(images))
    queue = torchio.Queue(
        torchio.SubjectsDataset(subjects),
        max_length=max(MOST, patch.per_volume),
        samples_per_volume=patch.per_volume,
        sampler=torchio.UniformSampler(patch.size),
        num_workers=subject.experiment.config.train.workers,
    )
    batch = subject.experiment.config.train.batch
    while True:
        for one in torchio.SubjectsLoader(queue, batch_size=batch, num_workers=0):
            yield len(one["source"]["data"])


def _windows(subject: Subject, sides: Sequence[int]) -> Spread:
    """Seconds of a volume's windows with a network that does nothing."""
    torchio: Any = import_module("torchio")

    prepared = subject.study.cache.prepared(subject.volume)
    settings = subject.translator.windows(prepared.grid.shape)
    image = torch.from_numpy(prepared.source.copy())
    overlap = tuple(int(side * settings["overlap"]) // 2 * 2 for side in sides)

    def once() -> None:
        whole = torchio.Subject(source=torchio.ScalarImage(tensor=image))
        sampler = torchio.GridSampler(
            whole, tuple(sides), overlap, padding_mode=0 if _small(sides, image.shape) else None
        )
        aggregator = torchio.GridAggregator(sampler, overlap_mode="hann")
        for batch in torchio.SubjectsLoader(sampler, batch_size=settings["batch"]):
            aggregator.add_batch(batch["source"]["data"][:, :1], batch["location"])
        aggregator.get_output_tensor()

    once()
    clock = Clock(torch.device("cpu"))
    return Spread.of([clock.of(once) for _ in range(REPEATS)])


def _small(sides: Sequence[int], shape: Sequence[int]) -> bool:
    return any(side > extent for side, extent in zip(sides, shape[1:], strict=True))
