"""The whole measurement: every part in its order, what it comes to as plain data, and that as tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, TypeAlias

from rich.table import Table

from benchmarks.harness.ceilings import computing_type, measure_ceilings
from benchmarks.harness.libraries import compare_monai, compare_torchio, unless_missing
from benchmarks.harness.loader import loader_facts
from benchmarks.harness.reference_step import compare_steps
from benchmarks.harness.steps import DATA, Steps, measure_steps
from benchmarks.harness.subject import Subject, opened_subject
from benchmarks.harness.timing import Spread
from benchmarks.harness.windows import measure_windows
from medtrans._version import __version__
from medtrans.config.experiment import Experiment
from medtrans.runs.session import environment_facts

__all__ = ["Against", "measure", "tables"]

Against: TypeAlias = Literal["reference", "torchio", "monai"]


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
        "cases_measured": len(subject.data.cohort.members),
        "parameters": {
            name: sum(one.numel() for one in network.parameters())
            for name, network in subject.method.networks().items()
        },
    }


def tables(found: dict[str, Any]) -> Iterator[Table | str]:
    """A report as tables and lines."""
    yield _heading(found)
    yield _ceilings(found["ceilings"])
    yield _step(found["step"])
    yield _rates(found["loader"], found["windows"])
    for name, compared in found["against"].items():
        yield f"against {name}: {compared['left_out']}" if "left_out" in compared else _against(name, compared)
    yield from found["remarks"]


def _heading(found: dict[str, Any]) -> str:
    config, machine = found["config"], found["machine"]
    where = ", ".join(machine["gpus"]) if config["device"] == "cuda" else machine["processor"]
    patch = "x".join(map(str, config["patch"]))
    return (
        f"medtrans {found['medtrans']}: {config['generator'].removeprefix('builtin:')}, {config['batch']} patches of "
        f"{patch}, {config['precision']}, on {where}, {machine['threads']} threads; {config['cases_measured']} of "
        f"{config['cases']} cases"
    )


def _table(title: str, *headings: str) -> Table:
    table = Table(title=title, title_justify="left")
    for index, heading in enumerate(headings):
        table.add_column(heading, justify="right" if index else "left")
    return table


def _ceilings(found: dict[str, Any]) -> Table:
    table = _table(f"Ceilings in {found['precision']}", "what", "median", "lowest", "highest")
    for name, key, unit, scale in (
        ("matrix product", "matrix_product_flops_per_s", "GFLOP/s", 1e9),
        (f"3^3 convolution ({found['convolution_of']})", "convolution_flops_per_s", "GFLOP/s", 1e9),
        ("copy", "copy_bytes_per_s", "GB/s", 1e9),
    ):
        table.add_row(name, *(f"{found[key][which] / scale:.1f} {unit}" for which in ("median", "low", "high")))
    return table


def _step(found: dict[str, Any]) -> Table:
    seconds = found["seconds"]
    table = _table(
        f"A training step, {seconds['repeats']} of them",
        "part",
        "s",
        "lowest",
        "highest",
        "share",
        "GFLOP",
        "of ceiling",
    )
    for part in found["parts"]:
        table.add_row(part["name"], *_seconds(part["seconds"]), f"{part['share']:.0%}", *_work(part))
    table.add_section()
    table.add_row("step", *_seconds(seconds), "100%", *_work(found))
    table.caption = f"peak memory {found['peak_bytes'] / 2**20:.0f} MiB"
    return table


def _rates(loader: dict[str, Any], windows: dict[str, Any]) -> Table:
    table = _table("Data and whole volumes", "what", "figure")
    table.add_row(f"loader, {loader['workers']} workers", f"{loader['patches_per_s']:.1f} patches/s")
    table.add_row("steps take", f"{loader['patches_per_s_that_steps_take']:.1f} patches/s")
    table.add_row("slow is", f"the {loader['slow']}")
    sides = "x".join(map(str, windows["sides"]))
    table.add_row(
        f"network on {windows['windows']} windows of {sides}", f"{windows['network_seconds']['median']:.3f} s"
    )
    table.add_row(
        "around it",
        f"{windows['overhead_seconds']['median']:.3f} s ({windows['overhead_share']:.1%} of the network's time)",
    )
    whole = windows["whole_seconds"]
    table.add_row("whole volume", "not tried, it would take long" if whole is None else f"{whole:.3f} s")
    return table


def _against(name: str, found: dict[str, Any]) -> Table:
    if "seconds" not in found:
        table = _table(f"Against {name}", "what", "theirs", "ours is better by")
        table.add_row("loader", f"{found['patches_per_s']:.1f} patches/s", f"{found['ratios']['loader']:.2f}")
        table.add_row("windows", f"{found['window_seconds']['median']:.3f} s", f"{found['ratios']['windows']:.2f}")
        return table
    table = _table(
        "Against plain steps on every slice", "step", "s", "lowest", "highest", "times ours", "in processor time"
    )
    for step, seconds in found["seconds"].items():
        ratios = [found.get(key, {}).get(step) for key in ("ratios", "ratios_of_processor_time")]
        table.add_row(step, *_seconds(seconds), *("" if one is None else Spread(**one).shown() for one in ratios))
    return table


def _seconds(spread: dict[str, Any]) -> list[str]:
    return [f"{spread[which]:.4f}" for which in ("median", "low", "high")]


def _work(part: dict[str, Any]) -> list[str]:
    fraction = part["fraction_of_ceiling"]
    return [
        f"{part['operations'] / 1e9:.2f}" if part["operations"] else "",
        "" if fraction is None else f"{fraction:.0%}",
    ]
