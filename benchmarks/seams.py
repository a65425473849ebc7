"""What an overlap costs and brings: seams, error and time, on a run trained for a minute or two.

    OMP_NUM_THREADS=1 python -m benchmarks.seams

mdaunet `fast` with L1 on the head phantom, patches of half its side; then the test cases at several overlaps. Seam:
mean absolute difference in the foreground between a prediction and the same with all windows moved by a quarter of
their side, as the metric `seam`. Intensities are in [0, 1].
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import medtrans
from medtrans.config.loading import load_config
from medtrans.data.cohort import load_images
from medtrans.data.datamodule import load_cohort
from medtrans.data.preprocessing import make_preprocessing
from medtrans.inference.translator import Translator

OVERLAPS = (0.0, 0.25, 0.5, 0.625, None)


def main() -> None:
    """Train and print a table."""
    parser = argparse.ArgumentParser(description="What an overlap costs and brings.")
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--subjects", type=int, default=8)
    parser.add_argument("--side", type=int, default=64, help="of the phantom; patches have half of it")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "run"
        medtrans.run(config(folder, given))
        translator = medtrans.load(folder)
        experiment = translator.experiment
        cohort, _ = load_cohort(experiment)
        images = [load_images(member.case, ("t1", "t2")) for member in cohort.of("test")]
        prepared = [make_preprocessing(experiment).prepare(one) for one in images]
        print("| overlap | windows' share of the volume again | seam | mean error | s of processor a volume |")
        print("|---|---|---|---|---|")
        for overlap in OVERLAPS:
            chosen = load_config([folder / "config.yaml"], [f"inference.overlap={_written(overlap)}"])
            one = Translator(chosen, translator.method, translator.preprocessing, translator.target_numbers)
            print(row(one, overlap, prepared), flush=True)


def config(folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    """A short training."""
    return {
        "output_dir": str(folder),
        "dataset": {"name": "phantom", "options": {"subjects": given.subjects, "size": [given.side] * 3}},
        "source": ["t1"],
        "target": ["t2"],
        "split": {"by": "fractions", "train": 0.5, "validation": 0.25, "test": 0.25},
        "preprocess": {"intensity": {"t1": {"name": "percentile"}, "t2": {"name": "percentile"}}},
        "patch": {"size": [given.side // 2] * 3},
        "generator": {"name": "mdaunet", "options": {"preset": "fast"}},
        "discriminator": None,
        "losses": {"l1": {}},
        "metrics": {"mae": {}},
        "callbacks": {},
        "train": {
            "steps": given.steps,
            "batch": 2,
            "optimizer": {"name": "adam", "options": {"lr": 1e-3}},
            "validate_every": given.steps,
            "checkpoint_every": given.steps,
            "validation_cases": 1,
            "best": None,
            "workers": 0,
        },
        "faithfulness": {"lesion_cases": 0},
    }


def row(translator: Translator, overlap: float | None, prepared: list[Any]) -> str:
    """One overlap's."""
    seams, errors, seconds = [], [], []
    for one in prepared:
        translator.windows(one.grid.shape)  # measures how far the network looks, once
        worked = time.process_time()
        found = translator.predict(one)
        seconds.append(time.process_time() - worked)
        inside = one.source[:1] > 0.1
        seams.append(float(np.abs(found - translator.predict(one, shift=0.25))[inside].mean()))
        errors.append(float(np.abs(found - one.target)[inside].mean()))
    taken = translator.windows(prepared[0].grid.shape)["overlap"]
    name = f"{taken:g}" if overlap is not None else f"null (here {taken:.3g})"
    again = (1 / (1 - taken)) ** 3
    return f"| {name} | {again:.1f} | {np.mean(seams):.5f} | {np.mean(errors):.4f} | {np.mean(seconds):.2f} |"


def _written(overlap: float | None) -> str:
    return "null" if overlap is None else f"{overlap:g}"


if __name__ == "__main__":
    main()
