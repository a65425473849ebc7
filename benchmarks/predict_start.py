"""What one prediction costs from the command line, beside a plain script with the same network and weights.

    OMP_NUM_THREADS=1 python -m benchmarks.predict_start
    OMP_NUM_THREADS=1 python -m benchmarks.predict_start --side 128

Processor time of whole processes, start-up and imports with it, turn by turn. The plain script (`predict_plain.py`) is
torch, nibabel and MONAI's sliding window, or a loop of its own where MONAI is missing; MONAI's own U-Net is measured
where `medtrans-monai` is installed. Windows of 48^3 that overlap by half, both blended by a Gaussian.
"""

from __future__ import annotations

import argparse
import tempfile
from importlib.util import find_spec
from pathlib import Path

import torch

import medtrans
from benchmarks.engine_medtrans import config
from benchmarks.harness.timing import Spread, alternated
from benchmarks.startup import seconds
from medtrans.volume import write

GOAL = 1.25


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="What one prediction costs.")
    parser.add_argument("--side", type=int, default=64, help="of the volume, in voxels")
    parser.add_argument("--repeats", type=int, default=7)
    given = parser.parse_args()
    has_monai = find_spec("monai") is not None
    print("plain script: torch, nibabel and", "MONAI's sliding window" if has_monai else "a loop over windows")
    for name in ("unet", "monai:unet") if find_spec("medtrans_monai") else ("unet",):
        with tempfile.TemporaryDirectory(prefix="medtrans-predict-") as folder:
            measure(name, Path(folder), given.side, given.repeats)


def measure(name: str, folder: Path, side: int, repeats: int) -> None:
    """Both sides with one network, and their ratio."""
    lines = ["subject,split,t1,t2"]
    cases = medtrans.component("dataset", "phantom").factory(subjects=3, size=(side, side, side)).cases()
    for case, split in zip(cases, ("train", "validation", "test"), strict=True):
        for modality in ("t1", "t2"):
            write(case.images[modality](), folder / f"{split}_{modality}.nii.gz")
        lines.append(f"{split},{split},{split}_t1.nii.gz,{split}_t2.nii.gz")
    (folder / "cases.csv").write_text("\n".join(lines), encoding="utf-8")
    settings = config(folder, "", 1, 0)
    settings["callbacks"] = {}
    settings["inference"]["batch"] = 2
    if name == "unet":
        settings["generator"] = {"name": "unet"}
    run, source, weights = medtrans.run(settings).path, folder / "test_t1.nii.gz", folder / "plain.pt"
    torch.save(medtrans.load(run).method.networks()["generator"].state_dict(), weights)
    ours = ["-m", "medtrans", "predict", str(run), str(source), str(folder / "ours.nii.gz"), "--overwrite"]
    plain = ["-m", "benchmarks.predict_plain", name, str(weights), str(source), str(folder / "plain.nii.gz")]
    for words in (ours, plain):
        seconds(words)
    found = alternated({"ours": lambda: seconds(ours), "plain": lambda: seconds(plain)}, repeats)
    print(
        f"{name}, {side}^3 voxels: medtrans predict {Spread.of(found['ours']).shown()} s, "
        f"plain {Spread.of(found['plain']).shown()} s, "
        f"ratio {Spread.of_ratios(found['ours'], found['plain']).shown()}, goal at most {GOAL}",
        flush=True,
    )


if __name__ == "__main__":
    main()
