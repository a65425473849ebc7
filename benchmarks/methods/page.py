"""The table of the page, from the measured numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

BEGIN, END = "<!-- table -->\n", "<!-- end -->"
HEADING = (
    "system", "patch × batch", "generator", "M", "GMAC", "discriminator", "M", "GMAC",
    "CPU s", "CPU GiB", "GPU steps/s", "GPU GiB",
)  # fmt: skip


def with_table(page: str, measured: Mapping[str, Any]) -> str:
    """The page with its table replaced by one of these numbers."""
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n{table(measured)}\n{END}{rest.partition(END)[2]}"


def table(measured: Mapping[str, Any]) -> str:
    """A row a system, and below which machines gave the numbers."""
    lines = [HEADING, tuple("---" if n in (0, 1, 2, 5) else "---:" for n in range(len(HEADING)))]
    lines += [row(name, one) for name, one in measured["systems"].items()]
    machines = [f"{kind}: {text}." for kind, text in measured["machines"].items()]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n\n" + "\n".join(machines) + "\n"


def row(name: str, one: Mapping[str, Any]) -> tuple[str, ...]:
    """One system's."""
    marks = {"published": "", "defaults": " ¹", "trial": " ²"}
    patch = "×".join(map(str, one["patch"]))
    cpu, gpu = one.get("CPU", {}), one.get("GPU", {})
    return (
        f"`{name}`{marks[one['settings']]}",
        f"{patch} × {one['batch']}",
        f"`{one['generator']}`",
        scaled(one["generator_parameters"], 1e6),
        scaled(one["generator_macs"], 1e9),
        f"`{one['discriminator']}`" if "discriminator" in one else "–",
        scaled(one.get("discriminator_parameters"), 1e6),
        scaled(one.get("discriminator_macs"), 1e9),
        scaled(cpu.get("seconds"), 1, cpu.get("failed")),
        scaled(cpu.get("bytes"), 2**30, cpu.get("failed")),
        scaled(1 / gpu["seconds"] if "seconds" in gpu else None, 1, gpu.get("failed")),
        scaled(gpu.get("bytes"), 2**30, gpu.get("failed")),
    )


def scaled(value: float | None, unit: float, instead: str | None = None) -> str:
    """Three digits of a value in a unit, or what is said in its place."""
    if value is None:
        return instead or "–"
    number = value / unit
    return f"{number:.0f}" if number >= 100 else f"{number:.3g}"
