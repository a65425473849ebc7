"""Where a run computes: on one device, or with other ranks by Lightning Fabric."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Literal, TypeAlias

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import distributed as dist

from medtrans.config.schema import TrainSettings
from medtrans.distributed.determinism import settle_threads
from medtrans.distributed.launch import place
from medtrans.distributed.ranks import Ranks, connected_ranks
from medtrans.errors import SetupError

Precision: TypeAlias = Literal["32-true", "bf16-mixed", "16-mixed", "64-true"]


def single_device_fabric(settings: TrainSettings) -> Fabric:
    """Lightning Fabric on a GPU where there is one, else on the CPU, in the precision of the config."""
    settle_threads()
    accelerator, precision = _machine(settings)
    return Fabric(accelerator=accelerator, devices=1, precision=precision)


@contextmanager
def distributed_session(settings: TrainSettings) -> Iterator[tuple[Fabric, Ranks]]:
    """Fabric and the ranks of this run: those that torchrun, Slurm or `train.devices` started, else this process alone.

    Raises:
        SetupError: there are not as many devices or ranks as was said.
        MedtransError: another rank failed, died or fell silent; all ranks end.
    """
    here = place()
    if here.count == 1:
        yield single_device_fabric(settings), Ranks()
        return
    if settings.devices not in ("auto", here.local_count):
        raise SetupError(
            f"train.devices: {settings.devices} on each machine are asked for, but the launcher started "
            f"{here.local_count}; set train.devices=auto, or start as many"
        )
    settle_threads()
    accelerator, precision = _machine(settings)
    if accelerator == "cuda" and torch.cuda.device_count() < here.local_count:
        raise SetupError(
            f"{here.local_count} ranks on this machine need as many GPUs, it has {torch.cuda.device_count()}; start "
            "fewer, or hide the GPUs (CUDA_VISIBLE_DEVICES=) to train on the CPU"
        )
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    fabric = Fabric(
        accelerator=accelerator,
        devices=here.local_count,
        num_nodes=here.machines,
        strategy=DDPStrategy(timeout=timedelta(seconds=settings.rank_timeout_s)),
        precision=precision,
    )
    try:
        fabric.launch()
    except (dist.DistError, RuntimeError, ValueError) as error:
        raise SetupError(
            f"rank {here.rank} of {here.count}: the ranks do not find each other within {settings.rank_timeout_s:g} s "
            f"({str(error).splitlines()[0][:200]}); are all of them started, and do they reach the first one's port?"
        ) from error
    with connected_ranks(fabric.global_rank, fabric.world_size, settings.rank_timeout_s) as ranks:
        yield fabric, ranks


def _machine(settings: TrainSettings) -> tuple[str, Precision]:
    gpu = torch.cuda.is_available()
    if settings.precision != "auto":
        return "cuda" if gpu else "cpu", settings.precision
    return "cuda" if gpu else "cpu", "bf16-mixed" if gpu and torch.cuda.is_bf16_supported() else "32-true"
