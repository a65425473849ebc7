"""A volume translated in slabs takes memory for a window's planes; `--streamed-side 1024` makes it 4 GiB."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from medtrans.volume import Grid
from medtrans.volume.planes import PlaneReader, written_planes

ROOT = Path(__file__).parents[3]
WINDOW = 96  # of benchmarks/streaming.py
MIB = 2**20
ANYWAY = 128 * MIB  # what a window and a few planes take while they are translated
IN_MEMORY = 512  # the largest side that is translated in memory too


def _taken(way: str, folder: Path) -> int:
    """Bytes of anonymous memory beyond what the process had."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.streaming",
        "--way",
        way,
        "--folder",
        str(folder),
        "--crop",
        "foreground",
    ]
    found = json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return int(found["peak"] - found["before"])


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_slabs_take_memory_for_planes_and_not_for_the_volume(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    side = int(request.config.getoption("--streamed-side"))
    rng = np.random.default_rng(0)
    with written_planes(tmp_path / "source.nii", Grid((side,) * 3, np.eye(4))) as writer:
        for _ in range(side):
            writer.write(rng.random((1, side, side), dtype=np.float32) * np.float32(1000))
    slabs = _taken("slabs", tmp_path)
    assert slabs <= 2 * 4 * WINDOW * side**2 + ANYWAY
    against = "source"
    if side <= IN_MEMORY:
        assert slabs <= 0.4 * _taken("memory", tmp_path)
        against = "memory"
    ways = [PlaneReader(tmp_path / f"{name}.nii").planes() for name in ("slabs", against)]
    pairs = zip(*ways, strict=True)
    assert max(float(np.abs(one - other).max()) for one, other in pairs) <= 1e-6 * 1000
