"""The side of `engine.py` that goes through medtrans; that script starts it."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import medtrans
from medtrans.volume import write

HERE = Path(__file__).parent


def main() -> None:
    """Train, or predict."""
    part, folder, facts, steps, seed = sys.argv[1], Path(sys.argv[2]), *sys.argv[3:]
    if part == "train":
        settings = config(folder, facts, int(steps), int(seed))
        medtrans.run(settings, overwrite=True, plugins=[HERE / "stopwatch.py"])
    else:
        predict(folder, Path(facts))


def config(folder: Path, facts: str, steps: int, seed: int) -> dict[str, Any]:
    """MONAI's U-Net and L1, nothing else."""
    return {
        "output_dir": str(folder / "run"),
        "seed": seed,
        "dataset": {"name": "table", "options": {"path": str(folder / "cases.csv")}},
        "source": ["t1"],
        "target": ["t2"],
        "split": {"by": "column"},
        "preprocess": {
            "crop": "none",
            "intensity": {
                name: {"name": "window", "options": {"range": [0, 1000], "unit": "a.u."}} for name in ("t1", "t2")
            },
        },
        "patch": {"size": [48, 48, 48], "per_volume": 1, "foreground": 0},
        "generator": {
            "name": "monai:unet",
            "options": {"channels": [16, 32, 64, 128], "strides": [2, 2, 2], "num_res_units": 2},
        },
        "discriminator": None,
        "losses": {"l1": {}},
        "metrics": {"psnr": {}},
        "faithfulness": {"lesion_cases": 0},
        "callbacks": {"stopwatch": {"name": "stopwatch:stopwatch", "options": {"path": facts, "steps": steps}}},
        "train": {
            "steps": steps,
            "batch": 2,
            "workers": 0,
            "optimizer": {"name": "adam", "options": {"lr": 1e-3}},
            "best": None,
        },
        "inference": {"overlap": 0.5, "batch": 4},
    }


def predict(folder: Path, facts: Path) -> None:
    """Translate the test volumes from files to files; the first is not counted."""
    translator = medtrans.load(folder / "run", plugins=[HERE / "stopwatch.py"])
    output = folder / "medtrans"
    output.mkdir(exist_ok=True)
    seconds = []
    for index in range(8, 12):
        begun = time.process_time()
        write(translator.translate(folder / f"{index}_t1.nii.gz"), output / f"{index}_t2.nii.gz")
        seconds.append(time.process_time() - begun)
    facts.write_text(json.dumps({"volume_s": sum(seconds[1:]) / len(seconds[1:])}), encoding="utf-8")


if __name__ == "__main__":
    main()
