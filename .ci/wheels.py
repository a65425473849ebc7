"""Builds the wheels of the core and of every package under plugins/, installs them together in a fresh environment and
runs the tests of the packages and a shortened quickstart from an empty folder."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]


def main(work: Path) -> None:
    """Build, install and try under `work`."""
    wheels = work / "wheels"
    packages = [ROOT, *sorted(path.parent for path in (ROOT / "plugins").glob("*/pyproject.toml"))]
    for package in packages:
        run(sys.executable, "-m", "build", "--wheel", "--outdir", str(wheels), str(package))
    venv.create(work / "fresh", with_pip=True)
    python = str(work / "fresh" / "bin" / "python")
    # One command, or pip would look for medtrans on the registry when it installs a plugin.
    built = [str(wheel) for wheel in sorted(wheels.glob("*.whl"))]
    run(python, "-m", "pip", "install", "--quiet", "-c", str(ROOT / "constraints.txt"), *built)
    medtrans = str(work / "fresh" / "bin" / "medtrans")
    empty = work / "empty"
    empty.mkdir()
    run(medtrans, "plugins", "--strict", cwd=empty)
    run(medtrans, "run", "quickstart", "train.steps=4", "dataset.options.subjects=6", cwd=empty)
    if not (empty / "runs" / "quickstart" / "report.html").is_file():
        raise SystemExit("the wheel's quickstart left no report")


def run(*command: str, cwd: Path | None = None) -> None:
    """Run a command and fail with it."""
    subprocess.run(command, cwd=cwd, check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
