"""Owns the check before a run: everything that can be known without training."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from medtrans.assembly import make_fabric, make_method, multiple_of, padded_sides
from medtrans.cohort import Cohort
from medtrans.components import Method
from medtrans.config import Experiment
from medtrans.errors import MedtransError, SetupError
from medtrans.types import Batch

__all__ = ["CheckReport", "tiny_step"]

_log = logging.getLogger("medtrans")
_TINY_SIDE = 32


@dataclass(frozen=True)
class CheckReport:
    """What a check found; faults are raised, not listed here.

    Args:
        cases: number of cases in each split.
        parameters: number of parameters of each network.
        warnings: what a run would go on with but a reader should know.
    """

    cases: Mapping[str, int]
    parameters: Mapping[str, int]
    warnings: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"{split}: {count} cases" for split, count in self.cases.items()]
        lines += [f"{name}: {count:,} parameters" for name, count in self.parameters.items()]
        lines += [f"warning: {warning}" for warning in self.warnings]
        return "\n".join([*lines, "ready to run"])


def tiny_step(experiment: Experiment, cohort: Cohort) -> Method:
    """Build the method and take one training step on a small patch of noise.

    Raises:
        SetupError: the networks, losses and optimisers do not work together; says where it broke.
    """
    config = experiment.config
    method = make_method(experiment, training_cases=len(cohort.of("train")))
    multiple = multiple_of(method.networks()["generator"]) if "generator" in method.networks() else (1, 1, 1)
    sides = padded_sides(tuple(min(side, _TINY_SIDE) for side in config.patch.size), multiple)
    noise = torch.Generator().manual_seed(0)
    count = config.train.accumulate
    source = torch.rand((count, len(config.source), *sides), generator=noise)
    target = torch.rand((count, len(config.target), *sides), generator=noise)
    fabric = make_fabric(config.train)
    method.setup(fabric)
    batch = Batch(source, target, torch.ones(count, 1, *sides), (0,) * count).to(fabric.device)
    try:
        values = method.training_step(batch, 0)
    except MedtransError:
        raise
    except (RuntimeError, TypeError, ValueError) as error:
        raise SetupError(f"one training step on a patch of {'x'.join(map(str, sides))} failed: {error}") from error
    broken = [name for name, value in values.items() if not bool(torch.isfinite(value).all())]
    if broken:
        raise SetupError(f"one training step on noise gave {', '.join(broken)} not finite")
    return method
