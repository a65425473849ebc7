"""Owns the tables of a measurement on a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.table import Table

__all__ = ["tables"]


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
        table.add_row(step, *_seconds(seconds), *("" if one is None else _ratio(one) for one in ratios))
    return table


def _ratio(ratio: dict[str, Any]) -> str:
    return f"{ratio['median']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})"


def _seconds(spread: dict[str, Any]) -> list[str]:
    return [f"{spread[which]:.4f}" for which in ("median", "low", "high")]


def _work(part: dict[str, Any]) -> list[str]:
    fraction = part["fraction_of_ceiling"]
    return [
        f"{part['operations'] / 1e9:.2f}" if part["operations"] else "",
        "" if fraction is None else f"{fraction:.0%}",
    ]
