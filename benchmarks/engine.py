"""What the engine costs: MONAI's U-Net through medtrans, and through the plain script a user would write.

    OMP_NUM_THREADS=1 python -m benchmarks.engine
    OMP_NUM_THREADS=1 python -m benchmarks.engine --minutes 3        and PSNR after 3 minutes of processor time each

Same phantom volumes, network (channels 16 to 128, strides 2), L1, Adam, float32, batches of two 48^3 patches, windows.
Needs `medtrans-monai`. Each side trains and predicts in processes of its own, turn by turn. medtrans' checkpoints, its
watch for numbers that are not finite and its records are counted in; the plain script has none of them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import nibabel
import numpy as np

from benchmarks.harness.timing import Spread
from medtrans import component
from medtrans.volume import write

TRAINING, TESTS = 8, 4
HIGH = 1000.0
"""Intensity that becomes 1; 0 stays 0."""
CHECKPOINT_EVERY = 1000
"""Steps over which the cost of a checkpoint is spread: medtrans' default."""
SIDES = ("medtrans", "plain")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="What the engine costs.")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=0.0, help="processor time of the trainings that are scored")
    parser.add_argument("--seeds", type=int, default=2, help="trainings that are scored on each side")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="medtrans-engine-") as name:
        folder = Path(name)
        write_volumes(folder)
        found: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
        for _ in range(given.repeats):
            for side in SIDES:
                found[side].append(once(side, folder, given.steps, seed=0))
                print(f"{side}: {found[side][-1]}", flush=True)
        for what, goal in (("step_s", "at most 1.05"), ("volume_s", "at most 1"), ("peak_bytes", "at most 1")):
            told(what, goal, *([one[what] for one in found[side]] for side in SIDES))
        if given.minutes:
            compare_quality(folder, found, given)


def told(what: str, goal: str, ours: list[float], theirs: list[float]) -> None:
    """Print one comparison."""
    print(
        f"{what}: medtrans {Spread.of(ours).shown('.4g')}, plain {Spread.of(theirs).shown('.4g')}, "
        f"ratio {Spread.of_ratios(ours, theirs).shown('.3f')}, goal {goal}",
        flush=True,
    )


def compare_quality(folder: Path, found: dict[str, list[dict[str, float]]], given: argparse.Namespace) -> None:
    """Train each side for the same processor time and score its predictions alike."""
    for side in SIDES:
        steps = int(60 * given.minutes / median(one["step_s"] for one in found[side]))
        scores = []
        for seed in range(given.seeds):
            once(side, folder, steps, seed=seed)
            scores.append(psnr(folder, side))
        print(f"PSNR after {given.minutes:g} min, {steps} steps: {side} {', '.join(f'{one:.2f}' for one in scores)} dB")


def psnr(folder: Path, side: str) -> float:
    """The mean over the test volumes, whole, with a data range of 1000."""
    scores = []
    for index in range(TRAINING, TRAINING + TESTS):
        prediction, target = (
            np.clip(nibabel.load(path).get_fdata(), 0, HIGH)
            for path in (folder / side / f"{index}_t2.nii.gz", folder / f"{index}_t2.nii.gz")
        )
        scores.append(10 * np.log10(HIGH**2 / np.mean((prediction - target) ** 2)))
    return float(np.mean(scores))


def write_volumes(folder: Path) -> None:
    """Phantom heads as files, and the table that lists them."""
    lines = ["subject,split,t1,t2"]
    cases = component("dataset", "phantom").factory(subjects=TRAINING + TESTS + 1, size=(64, 64, 64)).cases()
    for index, case in enumerate(cases):
        for modality in ("t1", "t2"):
            write(case.images[modality](), folder / f"{index}_{modality}.nii.gz")
        split = "train" if index < TRAINING else {TRAINING: "test", TRAINING + TESTS: "validation"}.get(index)
        if split is not None:  # a run scores one volume by itself; all tests are predicted and scored here
            lines.append(f"s{index},{split},{index}_t1.nii.gz,{index}_t2.nii.gz")
    (folder / "cases.csv").write_text("\n".join(lines), encoding="utf-8")


def once(side: str, folder: Path, steps: int, seed: int) -> dict[str, float]:
    """Train in one process and predict in another; the numbers of both."""
    trained = answer(side, "train", folder, steps, seed)
    predicted = answer(side, "predict", folder, steps, seed)
    step_s = trained["step_s"] + trained.get("checkpoint_s", 0.0) / CHECKPOINT_EVERY
    return {"step_s": step_s, "peak_bytes": trained["peak_bytes"], "volume_s": predicted["volume_s"]}


def answer(side: str, part: str, folder: Path, steps: int, seed: int) -> dict[str, float]:
    """What a process of its own writes."""
    facts = folder / f"{side}_{part}.json"
    facts.unlink(missing_ok=True)
    command = [sys.executable, "-m", f"benchmarks.engine_{side}", part, str(folder), str(facts), str(steps), str(seed)]
    child = subprocess.run(command, env=os.environ, capture_output=True, text=True, check=False)
    if child.returncode:
        raise SystemExit(f"{side} {part}: {child.stderr}")
    found: dict[str, Any] = json.loads(facts.read_text(encoding="utf-8"))
    return found


if __name__ == "__main__":
    main()
