"""Builds the wheels of the core and of every package under plugins/ and installs them together in a fresh environment.

Nothing may be broken, each package keeps its contract as installed (its other tests run in a checkout), a shortened
quickstart runs, and the packages may go one after another without those that stay missing them.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import venv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[1]


def main(work: Path) -> None:
    """Build, install and try under `work`."""
    packages = sorted(path.parent for path in (ROOT / "plugins").glob("*/pyproject.toml"))
    wheels = work / "wheels"
    build = (sys.executable, "-m", "build", "--wheel", "--outdir", str(wheels))
    with ThreadPoolExecutor(2) as pool:  # a build waits for its own environment most of the time
        list(pool.map(lambda package: run(*build, str(package)), (ROOT, *packages)))
    venv.create(work / "fresh", with_pip=True)
    python = str(work / "fresh" / "bin" / "python")
    # One command, or pip would look for medtrans on the registry when it installs a plugin.
    built = {name_of(wheel): wheel for wheel in sorted(wheels.glob("*.whl"))}
    chosen = [*map(str, (built.pop("medtrans"), *built.values())), "pytest", "pytest-timeout", "pytest-xdist"]
    install = ("install", "--quiet", "--no-compile", "-c", str(ROOT / "constraints.txt"))
    run(python, "-m", "pip", *install, *chosen)
    empty = work / "empty"
    empty.mkdir()
    expect_plugins(python, set(built), empty)
    contracts = [str(one) for package in packages for one in (package / "tests").glob("test_*contract.py")]
    settings = ("-c", str(ROOT / "pyproject.toml"), "-p", "no:cacheprovider", "-n", "2", "--dist", "worksteal")
    run(python, "-m", "pytest", "-q", *settings, *contracts, cwd=empty, OMP_NUM_THREADS="1")
    medtrans = str(work / "fresh" / "bin" / "medtrans")
    run(medtrans, "run", "quickstart", "train.steps=4", "dataset.options.subjects=6", cwd=empty)
    if not (empty / "runs" / "quickstart" / "report.html").is_file():
        raise SystemExit("the wheel's quickstart left no report")
    while built:
        name, _ = built.popitem()
        run(python, "-m", "pip", "uninstall", "--quiet", "--yes", name)
        expect_plugins(python, set(built), empty)


def expect_plugins(python: str, wanted: set[str], cwd: Path) -> None:
    """`medtrans plugins --strict` is clean, and lists these packages beside the core."""
    command = [python, "-m", "medtrans", "plugins", "--strict", "--json", "--limit", "120"]
    listed = json.loads(subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True).stdout)
    found = {normalised(one["origin"]["distribution"]) for one in listed} - {"medtrans"}
    if found != wanted:
        raise SystemExit(f"medtrans plugins lists {sorted(found)}, expected {sorted(wanted)}")


def name_of(wheel: Path) -> str:
    """The package that a wheel holds."""
    return normalised(wheel.name.partition("-")[0])


def normalised(name: str) -> str:
    """A package's name as registries compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def run(*command: str, cwd: Path | None = None, **environment: str) -> None:
    """Run a command and fail with it."""
    subprocess.run(command, cwd=cwd, check=True, env={**os.environ, **environment})


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
