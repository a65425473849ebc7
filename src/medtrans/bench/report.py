"""Owns the whole measurement: every part in its order, and what it comes to in one plain report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias, get_args

from medtrans._version import __version__
from medtrans.bench.against_monai import compare_monai
from medtrans.bench.against_reference import compare_steps
from medtrans.bench.against_torchio import compare_torchio
from medtrans.bench.ceilings import computing_type, measure_ceilings
from medtrans.bench.loader import loader_facts
from medtrans.bench.others import unless_missing
from medtrans.bench.steps import DATA, Steps, measure_steps
from medtrans.bench.subject import Subject, opened_subject
from medtrans.bench.windows import measure_windows
from medtrans.config import Experiment
from medtrans.environment import environment_facts

__all__ = ["AGAINST", "Against", "measure"]

Against: TypeAlias = Literal["reference", "torchio", "monai"]
AGAINST: tuple[Against, ...] = get_args(Against)


def measure(
    experiment: Experiment, *, steps: int, against: Sequence[Against] = (), say: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """Measure a config on this machine, as plain data in SI units.

    Args:
        experiment: the checked config.
        steps: training steps that count.
        against: what it is compared with.
        say: is told what is being measured.

    Raises:
        MedtransError: the config's cases or parts are not as they should be.
    """
    say("preparing cases")
    with opened_subject(experiment) as subject:
        say("ceilings")
        ceilings = measure_ceilings(subject.device, computing_type(subject.precision))
        say("training steps")
        taken = measure_steps(subject, steps)
        say("loader")
        loader = loader_facts(subject, taken.seconds.median - _wait(taken))
        say("windows")
        windows = measure_windows(subject).as_data()
        found: dict[str, Any] = {
            "medtrans": __version__,
            "machine": _machine(),
            "config": _config(subject),
            "ceilings": ceilings.as_data(),
            "step": taken.as_data(ceilings.best),
            "loader": loader,
            "windows": windows,
        }
        ours = {
            "patches_per_s": loader["patches_per_s"],
            "window": windows["window"],
            "window_seconds": windows["overhead_seconds"]["median"],
        }
        compare: dict[Against, Callable[[], dict[str, Any]]] = {
            "reference": lambda: compare_steps(subject, steps),
            "torchio": lambda: unless_missing("torchio", lambda: compare_torchio(subject, ours)),
            "monai": lambda: unless_missing("monai", lambda: compare_monai(subject, ours)),
        }
        found["against"] = {}
        for name in dict.fromkeys(against):
            say(f"against {name}")
            found["against"][name] = compare[name]()
    return {**found, "remarks": remarks(found)}


def remarks(found: dict[str, Any]) -> list[str]:
    """Where the time goes, in a few sentences."""
    step, loader, windows = found["step"], found["loader"], found["windows"]
    parts = sorted(step["parts"], key=lambda part: -part["share"])[:3]
    said = ["most of a step: " + ", ".join(f"{part['name']} {part['share']:.0%}" for part in parts)]
    if loader["slow"] == "loader":
        said.append("steps wait for the loader: raise train.workers, or put the cache on a faster disk")
    else:
        times = loader["patches_per_s"] / loader["patches_per_s_that_steps_take"]
        said.append(f"the loader is {times:.1f} times as fast as steps need")
    if step["fraction_of_ceiling"] < 0.3:
        said.append("less than a third of the ceiling: narrow or small layers, or a busy machine, leave it unused")
    if windows["overhead_share"] > 0.1:
        said.append("windows cost over a tenth of the network's time: raise inference.batch or lower the overlap")
    return said


def _wait(taken: Steps) -> float:
    return next(part.seconds.median for part in taken.parts if part.name == DATA)


def _machine() -> dict[str, Any]:
    facts = environment_facts()
    return {name: facts[name] for name in ("processor", "cores", "threads", "gpus", "python", "packages")}


def _config(subject: Subject) -> dict[str, Any]:
    config = subject.experiment.config
    return {
        "generator": subject.experiment.slots["generator",].found.name,
        "method": subject.experiment.slots["method",].found.name,
        "device": subject.device.type,
        "precision": subject.precision,
        "patch": list(config.patch.size),
        "batch": config.train.batch,
        "accumulate": config.train.accumulate,
        "cases": subject.cases,
        "cases_measured": len(subject.study.cohort.members),
        "parameters": {
            name: sum(one.numel() for one in network.parameters())
            for name, network in subject.method.networks().items()
        },
    }
