"""What a volume larger than memory takes: translated in slabs from file to file, against the same in memory.

    OMP_NUM_THREADS=1 python -m benchmarks.streaming --shape 1024 1024 1024       4 GiB of float32
    OMP_NUM_THREADS=1 python -m benchmarks.streaming --compare                    256^3 both ways, voxel by voxel

An identity for a network, windows of 96^3 that overlap by a quarter, a target window of intensities. Each way runs in a
process of its own. Needs disk for the volume twice.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness.anonymous_memory import AnonymousPeak, anonymous_bytes
from medtrans.inference.streaming import translate_file
from medtrans.inference.translator import Translator
from medtrans.testing.selftest.translation import identity_translator
from medtrans.volume import Grid, Volume, write
from medtrans.volume.planes import PlaneReader, written_planes

HIGH = 1000.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="What a volume larger than memory takes.")
    parser.add_argument("--shape", type=int, nargs=3, default=[256, 256, 256])
    parser.add_argument("--crop", choices=["none", "foreground"], default="none")
    parser.add_argument("--ending", choices=[".nii", ".nii.gz"], default=".nii")
    parser.add_argument("--compare", action="store_true", help="translate in memory too, and compare")
    parser.add_argument("--folder", type=Path, help="where the files go; a temporary folder unless given")
    parser.add_argument("--way", choices=["slabs", "memory"], help="(a child of this script)")
    given = parser.parse_args()
    if given.way:
        translate(given.way, given.folder, given.crop, given.ending)
        return
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        write_source(folder / f"source{given.ending}", given.shape)
        size = 4 * math.prod(given.shape)
        print(f"volume {size / 2**20:.0f} MiB, crop {given.crop}, {given.ending}")
        for way in ("slabs", "memory") if given.compare else ("slabs",):
            found = child(way, folder, given)
            before, peak = (found[name] / 2**20 for name in ("before", "peak"))
            print(f"{way}: most anonymous memory {peak:.0f} MiB, {before:.0f} of them before it began")
            print(f"    that is {(peak - before) * 2**20 / size:.2f} volumes beyond")
            print(f"    {found['wall_s']:.0f} s, {found['cpu_s']:.0f} s of processor")
        against = "memory" if given.compare else "source"
        largest = difference(folder / f"slabs{given.ending}", folder / f"{against}{given.ending}")
        print(f"largest difference from {against}: {largest / HIGH:.1e} of the intensities' range")


def write_source(path: Path, shape: list[int]) -> None:
    """Noise from plane to plane."""
    rng = np.random.default_rng(0)
    i, j, k = shape
    with written_planes(path, Grid((i, j, k), np.eye(4))) as writer:
        for _ in range(k):
            writer.write(rng.random((1, j, i), dtype=np.float32) * np.float32(HIGH))


def child(way: str, folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    """What one way took, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.streaming", "--way", way, "--folder", str(folder)]
    command += ["--crop", given.crop, "--ending", given.ending]
    told: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return told


def translate(way: str, folder: Path, crop: str, ending: str) -> None:
    """One way, measured."""
    translator = prepared(folder, crop)
    started, worked = time.perf_counter(), time.process_time()
    with AnonymousPeak() as memory:
        if way == "slabs":
            translate_file(translator, folder / f"source{ending}", {"ct": folder / f"slabs{ending}"})
        else:
            translated = translator.translate(folder / f"source{ending}")
            assert isinstance(translated, Volume)
            write(translated, folder / f"memory{ending}")
    seconds = {"wall_s": time.perf_counter() - started, "cpu_s": time.process_time() - worked}
    print(json.dumps({"before": memory.before, "peak": max(memory.peak, anonymous_bytes()), **seconds}))


def prepared(folder: Path, crop: str) -> Translator:
    """An identity that is given windows of 96^3."""
    translator = identity_translator(folder, window=(0.0, HIGH), crop=crop)
    config = translator.experiment.config
    inference = config.inference.model_copy(update={"window": (96, 96, 96), "overlap": 0.25, "batch": 1})
    object.__setattr__(config, "inference", inference)  # settings are frozen
    return translator


def difference(first: Path, second: Path) -> float:
    """The largest, plane by plane."""
    pairs = zip(PlaneReader(first).planes(), PlaneReader(second).planes(), strict=True)
    return max(float(np.abs(one - other).max()) for one, other in pairs)


if __name__ == "__main__":
    main()
