"""The check before a run: everything that can be known without training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Protocol, cast

import torch

from medtrans.config.experiment import Experiment
from medtrans.data.checks.cases import CaseChecks, CaseInspector, CaseReport, CheckReport
from medtrans.data.checks.cohort import (
    clipping_warnings,
    mark_duplicates,
    patch_warnings,
    registration_warnings,
    uncovered_texts,
)
from medtrans.data.checks.images import resampled_warnings
from medtrans.data.cohort import Cohort, Member, alike_faults, alike_warnings, list_cases, load_images
from medtrans.data.datamodule import DataModule
from medtrans.data.preprocessing import Prepared
from medtrans.distributed.devices import single_device_fabric
from medtrans.distributed.launch import place
from medtrans.errors import DataError, MedtransError, SetupError
from medtrans.plugins.input_size import common_multiple, padded_sides
from medtrans.plugins.interfaces import Dataset, Method
from medtrans.training.build import check_compiler, make_method
from medtrans.training.unused_weights import refuse_unused_weights
from medtrans.types import Batch
from medtrans.utils.memory import memory_faults
from medtrans.utils.progress import progress_over

__all__ = ["run_preflight", "tiny_step"]


_TINY_SIDE = 32


class TriesMetrics(Protocol):
    """What a run is scored by; it is handed in, since training lies below evaluation."""

    def try_metrics(self, member: Member, prepared: Prepared) -> Sequence[str]:
        """Try every metric on a case; gives what is undefined, and raises where one cannot score it."""


def run_preflight(experiment: Experiment, make_scorer: Callable[[DataModule], TriesMetrics]) -> CheckReport:
    """Try everything a run does before its first step, and collect all that it would refuse.

    The networks take one step on noise; then every image is read once.

    Args:
        experiment: the checked config.
        make_scorer: makes what a run is scored by, to see whether it can be made and can score.

    Raises:
        DataError: there are no cases to look at.
        ConfigError: a part of the preprocessing or a metric refuses its options.
    """
    config = experiment.config
    dataset = cast("Dataset", experiment.build("dataset"))
    cohort, faults = list_cases(dataset, config.split, source=config.source, target=config.target, seed=config.seed)
    method, broken = None, None
    try:
        method = tiny_step(experiment, cohort)
    except MedtransError as error:
        broken = error
    networks = {} if method is None else method.networks()
    data = DataModule(experiment, cohort, Path(config.output_dir))
    scorer = make_scorer(data)
    not_learnt: Sequence[str] = ()
    try:
        data.learn()
    except DataError as error:
        not_learnt = error.faults
    inspector = CaseInspector(
        data.preprocessing,
        config.reading.rules,
        paired=method is None or method.pairing == "paired",
        prepares=not not_learnt,
    )
    found = [inspector.inspect(member) for member in progress_over(cohort.members, "reading cases")]
    faults += [remark.text for each in found for remark in each.faults] or not_learnt
    held, members = [each.digests for each in found], [each.member for each in found]
    faults += [one for one in alike_faults(members, held, config.source, config.target) if one not in faults]
    faults += mark_duplicates(found)
    multiple = common_multiple(networks.values()) if networks else (1, 1, 1)
    undefined, unscored = _tried_metrics(scorer, data, found)
    faults += unscored
    warnings = [
        *undefined,
        *alike_warnings(members, held, config.source),
        *registration_warnings(found, config.source[0]),
        *patch_warnings(found, config.patch.size, multiple, config.generator.name),
        *resampled_warnings(config.source[0], [(each.member, each.resampled) for each in found]),
        *clipping_warnings(((each.member.label, each) for each in found), data.preprocessing.scalings),
    ]
    for each in found:
        for modality, text in uncovered_texts(each.uncovered).items():
            each.warn(f"{modality} ends early", text)
    return CheckReport(
        cases=tuple(_case(each) for each in found),
        faults=(*faults, *(broken.faults if broken else ())),
        warnings=(*(remark.text for each in found for remark in each.warnings), *warnings),
        parameters={name: sum(one.numel() for one in network.parameters()) for name, network in networks.items()},
        exit_code=DataError.exit_code if faults else broken.exit_code if broken else 0,
    )


def _tried_metrics(
    scorer: TriesMetrics, data: DataModule, found: Sequence[CaseChecks]
) -> tuple[Sequence[str], Sequence[str]]:
    """What the metrics say of the sound case with the shortest side among those to be scored: warnings and faults."""
    sides = {
        each.member.number: (sorted(each.grid.shape), each.member)
        for each in found
        if each.grid is not None and each.sides is not None and each.member.split != "train"
    }
    if not sides:
        return (), ()
    _, member = sides[min(sides, key=lambda number: sides[number][0])]
    steps, rules = data.preprocessing, data.experiment.config.reading.rules
    wanted = [name for name in (*steps.source, *steps.target, "mask") if name in member.case.images]
    try:
        prepared = steps.prepare(load_images(member.case, wanted, rules, steps.scalings))
        return scorer.try_metrics(member, prepared), ()
    except (DataError, SetupError) as error:
        return (), error.faults


def tiny_step(experiment: Experiment, cohort: Cohort) -> Method:
    """Build the method and take one training step on a small patch of noise.

    Raises:
        SetupError: the networks, losses and optimisers do not work together; says where it broke.
    """
    config = experiment.config
    method = make_method(experiment, training_cases=len(cohort.of("train")))
    multiple = common_multiple(method.networks().values())
    sides = padded_sides(tuple(min(side, _TINY_SIDE) for side in config.patch.size), multiple)
    noise = torch.Generator().manual_seed(0)
    count = config.train.accumulate
    source = torch.rand((count, len(config.source), *sides), generator=noise)
    target = torch.rand((count, len(config.target), *sides), generator=noise)
    fabric = single_device_fabric(config.train)
    if config.train.compile is not None:
        check_compiler(fabric.device)
    method.setup(fabric)
    batch = Batch(source, target, torch.ones(count, 1, *sides), (0,) * count).to(fabric.device)
    several = place().count > 1 or config.train.devices not in ("auto", 1)
    try:
        with (
            memory_faults("one training step", "lower what sets the networks' width or depth"),
            refuse_unused_weights(method.networks()) if several else nullcontext(),
        ):
            values = method.training_step(batch, 0)
    except MedtransError:
        raise
    except (RuntimeError, TypeError, ValueError) as error:
        raise SetupError(f"one training step on a patch of {'x'.join(map(str, sides))} failed: {error}") from error
    broken = [name for name, value in values.items() if not bool(torch.isfinite(value).all())]
    if broken:
        raise SetupError(f"one training step on noise gave {', '.join(broken)} not finite")
    return method


def _case(found: CaseChecks) -> CaseReport:
    member = found.member
    return CaseReport(
        label=member.label,
        case=member.case.case,
        subject=member.case.subject,
        split=member.split,
        shape=None if found.grid is None else found.grid.shape,
        spacing_mm=None if found.grid is None else found.grid.spacing_mm,
        sides=found.sides,
        registrations=found.registrations,
        faults=tuple(found.faults),
        warnings=tuple(found.warnings),
        uncovered=found.uncovered,
    )
