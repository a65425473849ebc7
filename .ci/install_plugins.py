"""Installs every package under plugins/ into the environment that runs this, all in one command beside the core."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def main() -> None:
    """Install the core and all packages as they stand in the repository."""
    packages = sorted(path.parent for path in (ROOT / "plugins").glob("*/pyproject.toml"))
    editable = [word for package in (ROOT, *packages) for word in ("-e", str(package))]
    constraints = str(ROOT / "constraints.txt")
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "-c", constraints, *editable], check=True)


if __name__ == "__main__":
    main()
