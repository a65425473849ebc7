"""Owns the comparison with MONAI's cached loader and its sliding window, on the same prepared volumes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Any

import torch

from medtrans.bench.clock import Clock
from medtrans.bench.others import REPEATS, compared, rate, volumes
from medtrans.bench.spread import Spread
from medtrans.bench.subject import Subject

__all__ = ["compare_monai"]


def compare_monai(subject: Subject, ours: dict[str, Any]) -> dict[str, Any]:
    """MONAI's rates beside ours.

    Args:
        subject: the config.
        ours: our patches in a second, our window, and seconds around the windows of a volume.
    """
    return compared(ours, rate(_patches(subject)), _windows(subject, ours["window"]))


def _patches(subject: Subject) -> Iterator[int]:
    """Sizes of batches of random crops from volumes that are kept in memory."""
    data: Any = import_module("monai.data")
    transforms: Any = import_module("monai.transforms")

    config = subject.experiment.config
    kept = [
        {"source": torch.from_numpy(one.source.copy()), "target": torch.from_numpy(one.target.copy())}
        for one in volumes(subject)
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


def _windows(subject: Subject, sides: Sequence[int]) -> Spread:
    """Seconds of a volume's windows with a network that does nothing."""
    inferers: Any = import_module("monai.inferers")

    prepared = subject.study.cache.prepared(subject.volume)
    settings = subject.translator.windows(prepared.grid.shape)
    image = torch.from_numpy(prepared.source.copy())[None]
    mode = settings["blend"]

    def once() -> None:
        inferers.sliding_window_inference(
            image, sides, settings["batch"], lambda windows: windows[:, :1], overlap=settings["overlap"], mode=mode
        )

    once()
    clock = Clock(torch.device("cpu"))
    return Spread.of([clock.of(once) for _ in range(REPEATS)])
