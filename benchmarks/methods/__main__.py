"""The measuring of `docs/methods-compared.md`: every generator and discriminator by size, cost and memory.

    python -m benchmarks.methods                   sizes, and a step of each on the CPU
    python -m benchmarks.methods --device cuda     adds a step of each on the GPU, at its own patch and batch
    python -m benchmarks.methods --only resvit     one system; the numbers of the others stay
    python -m benchmarks.methods --render          only the page, from the numbers

Numbers are kept in `results.json`; the page's table is made from it. Each system is measured in a process of
its own. Installed plugins take part.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.methods.page import with_table
from benchmarks.methods.systems import System, systems

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PAGE = ROOT / "docs" / "methods-compared.md"
ANSWER = "medtrans-measured "
STOPPED = (-signal.SIGXCPU, -signal.SIGKILL)


def main() -> int:
    """Measure what the command line asks for and write numbers and page."""
    parser = argparse.ArgumentParser(description="Measure every generator and discriminator.")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--only", nargs="+", help="names of systems")
    parser.add_argument("--render", action="store_true", help="measure nothing, write the page's table")
    parser.add_argument("--budget-s", type=float, default=math.inf, help="begin no system after so long")
    parser.add_argument("--list", action="store_true", help="say what would be measured")
    parser.add_argument("--limit-s", type=int, default=300, help="processor time for the step of one system")
    parser.add_argument("--results", type=Path, default=HERE / "results.json")
    parser.add_argument("--part", choices=["sizes", "step"], help="print these numbers of the one system, in JSON")
    given = parser.parse_args()
    results = read(given.results)
    if given.render:
        render(results)
        return 0
    chosen = [one for one in systems() if not given.only or one.name in given.only]
    if given.list:
        print("\n".join(f"{one.name} ({one.settings})" for one in chosen))
        return 0
    if given.part:
        print(ANSWER + json.dumps(part(chosen[0], given.part, given.device)))
        return 0
    if given.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no GPU here")
    kind, text = machine(given.device)
    results["machines"][kind] = text
    begun = time.monotonic()
    for system in chosen:
        if time.monotonic() - begun > given.budget_s:
            print(f"{system.name}: not begun, the time is spent", flush=True)
            continue
        kept = results["systems"].get(system.name, {})
        found = {**kept, **in_a_process(system, "sizes", given), kind: in_a_process(system, "step", given)}
        print(f"{system.name}: {json.dumps(found)}", flush=True)
        if "generator" in found:
            results["systems"][system.name] = found
            write(given.results, results)
    if not given.only:
        names = [system.name for system in chosen if system.name in results["systems"]]
        results["systems"] = {name: results["systems"][name] for name in names}
    write(given.results, results)
    render(results)
    return 0


def render(results: dict[str, Any]) -> None:
    """Write the page's table."""
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8"), results), encoding="utf-8")


def read(path: Path) -> dict[str, Any]:
    """The numbers so far."""
    if not path.is_file():
        return {"machines": {}, "systems": {}}
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def write(path: Path, results: dict[str, Any]) -> None:
    """Keep the numbers."""
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def in_a_process(system: System, wanted: str, given: argparse.Namespace) -> dict[str, Any]:
    """Numbers of a system from a process of its own, so that memory is its own; or why there are none."""
    environment = (
        os.environ | {"OMP_NUM_THREADS": "1"} | ({"CUDA_VISIBLE_DEVICES": ""} if given.device == "cpu" else {})
    )
    command = [
        sys.executable,
        "-m",
        "benchmarks.methods",
        "--device",
        given.device,
        "--only",
        system.name,
        "--part",
        wanted,
    ]
    child = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    # Of the processor, not of the clock: others may share the machine.
    resource.prlimit(child.pid, resource.RLIMIT_CPU, (given.limit_s, given.limit_s))
    out, said = child.communicate()
    answers = [line for line in out.splitlines() if line.startswith(ANSWER)]
    if answers:
        found: dict[str, Any] = json.loads(answers[-1].removeprefix(ANSWER))
        return found
    print(said, file=sys.stderr)
    if "out of memory" in said:
        return {"failed": "out of memory"}
    return {"failed": f"over {given.limit_s} s" if child.returncode in STOPPED else "failed"}


def part(system: System, wanted: str, device: str) -> dict[str, Any]:
    """Some numbers of a system."""
    from benchmarks.methods.measuring import sizes, step  # here, so that listing is quick

    return sizes(system) if wanted == "sizes" else step(system, common=device == "cpu")


def machine(device: str) -> tuple[str, str]:
    """What gave the numbers."""
    if device == "cuda":
        return "GPU", f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}, precision `auto`"
    return "CPU", f"one thread of {processor()}, PyTorch {torch.__version__}, float32"


def processor() -> str:
    """The name of the processor."""
    listed = Path("/proc/cpuinfo")
    lines = listed.read_text(encoding="utf-8").splitlines() if listed.is_file() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.machine()


if __name__ == "__main__":
    raise SystemExit(main())
