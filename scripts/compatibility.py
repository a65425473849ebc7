"""Tries what an older commit left behind with the code of today: configs, runs, exports, checkpoints and caches.

    python scripts/compatibility.py 8dc8955

The older code trains small runs, translates an image and exports. The code of today has to load every config to the
same settings, translate the image to the same voxels from the run and from the export, score the test cases alike from
the same cache, and finish a run that was stopped half way with the same weights.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np

ROOT = Path(__file__).parents[1]
TINY = ["dataset.options.subjects=6", "train.steps=6", "train.checkpoint_every=3", "train.validate_every=6"]
CT = [
    "dataset.options={anatomy: pelvis, subjects: 6, size: [32, 32, 32]}",
    "target=[ct]",
    "preprocess.intensity={t1: {name: percentile}, ct: {name: window, options: {range: [-1024.0, 3000.0]}}}",
]
RUNS = {
    "mr": ["quickstart", *TINY],
    "ct": ["quickstart", *TINY, *CT],
    "cycle": ["quickstart_cycle", *TINY],
    "unet": ["quickstart", *TINY, "generator={name: unet}", "discriminator=null", "losses={relativistic: null}"],
}
SETTINGS = """
import json, sys
from medtrans.config import load_config
found = {name: load_config([name]).saved() for name in sys.argv[1:]}
print(json.dumps(found, sort_keys=True))
"""


def main(ref: str) -> None:
    """Compare with a commit, and exit with 1 where anything differs."""
    with tempfile.TemporaryDirectory(prefix="medtrans-") as home:
        old, work = Path(home) / "old", Path(home) / "work"
        work.mkdir()
        subprocess.run(["git", "-C", str(ROOT), "worktree", "add", "--quiet", "--detach", str(old), ref], check=True)
        try:
            faults = list(configs(old, work))
            for name in RUNS:
                found = list(run(name, old, work))
                print(f"{name}: {'; '.join(found) or 'alike'}", flush=True)
                faults += found
        finally:
            subprocess.run(["git", "-C", str(ROOT), "worktree", "remove", "--force", str(old)], check=True)
    print("\n".join(faults) or "all alike")
    raise SystemExit(bool(faults))


def configs(old: Path, work: Path) -> Iterator[str]:
    """What differs in the settings of configs that both ship, read from the same files."""
    both = [path.relative_to(ROOT) for path in sorted((ROOT / "configs").glob("*.yaml"))]
    names = [str(old / path) for path in both if (old / path).is_file()]
    before, now = (json.loads(python(root, work, "-c", SETTINGS, *names)) for root in (old, ROOT))
    print(f"{len(names)} configs: {'alike' if before == now else 'other settings'}", flush=True)
    yield from (f"{name}: other settings" for name in names if before[name] != now[name])


def run(name: str, old: Path, work: Path) -> Iterator[str]:
    """What differs in a run, its export, its scores and its second half."""
    kept, stopped, export = work / name, work / f"{name}_stopped", work / f"{name}_export"
    config = [str(old / "configs" / f"{RUNS[name][0]}.yaml"), *RUNS[name][1:]]
    medtrans(old, work, "run", *config, f"output_dir={kept}")
    medtrans(old, work, "export", str(kept), str(export))
    medtrans(old, work, "run", *config, f"output_dir={stopped}")
    shutil.rmtree(stopped / "checkpoints" / "step_00000006")  # as if it had been killed before its last checkpoint
    image = min((kept / "predictions").glob("*.nii.gz"))
    for source in (kept, export):
        images = []
        for root, side in ((old, "old"), (ROOT, "new")):
            out = work / f"{source.name}_{side}.nii.gz"
            medtrans(root, work, "predict", str(source), str(image), str(out))
            images.append(nibabel.load(out))
        # Compressed bytes may differ: another library packs them.
        same = np.array_equal(images[0].affine, images[1].affine)
        if not same or not np.array_equal(np.asanyarray(images[0].dataobj), np.asanyarray(images[1].dataobj)):
            yield f"{source.name}: predictions differ"
    medtrans(ROOT, work, "run", str(stopped / "config.yaml"), "--resume")
    weights = [folder / "checkpoints" / "step_00000006" for folder in (kept, stopped)]
    if hashes(weights[0], "*.safetensors") != hashes(weights[1], "*.safetensors"):
        yield f"{name}: the resumed run ends with other weights"
    cached, scores = hashes(kept / "cache", "**/*.npy"), (kept / "metrics.csv").read_text()
    medtrans(ROOT, work, "evaluate", str(kept))
    if not scores == (kept / "metrics.csv").read_text() == (stopped / "metrics.csv").read_text():
        yield f"{name}: other scores"
    if not cached or cached != hashes(kept / "cache", "**/*.npy"):
        yield f"{name}: the cache is made anew"


def medtrans(root: Path, work: Path, *words: str) -> None:
    """A verb of the code under `root`."""
    python(root, work, "-m", "medtrans", *words)


def python(root: Path, work: Path, *words: str) -> str:
    """Python with the code under `root`, on one thread; returns what it prints."""
    environment = {**os.environ, "PYTHONPATH": str(root / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *words], cwd=work, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{root}: {' '.join(words)}\n{done.stderr}")
    return done.stdout


def hashes(folder: Path, pattern: str) -> dict[str, str]:
    """SHA-256 of files by their place in a folder."""
    files = sorted(folder.glob(pattern))
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


if __name__ == "__main__":
    main(*sys.argv[1:])
