"""Tries what an older commit left behind with the code of today: runs, exports, checkpoints and configs.

    python scripts/compatibility.py 8dc8955

The older code trains small runs, translates an image, exports, and stops a run half way; the code of today then has to
load every config to the same settings, translate the image bit for bit alike from the run and from the export, and
finish the stopped run with the same weights.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
TINY = [
    "dataset.options.subjects=5",
    "train.steps=6",
    "train.workers=0",
    "train.checkpoint_every=3",
    "train.validate_every=6",
]
RUNS = {
    "mr": ["quickstart", *TINY, "dataset.options.size=[40, 40, 40]"],
    "ct": ["quickstart_ct", *TINY],
    "cycle": ["quickstart_cycle", *TINY],
    "unet": ["quickstart", *TINY, "generator={name: unet}", "discriminator=null", "losses={l1: {}}"],
}
SETTINGS = """
import json, sys
from medtrans.config.loading import load_config
found = {}
for name in sys.argv[1:]:
    saved = load_config([name]).saved()
    saved.pop("versions")
    found[name] = saved
print(json.dumps(found, sort_keys=True))
"""


def main(ref: str) -> None:
    """Compare, and exit with 1 where anything differs."""
    with tempfile.TemporaryDirectory(prefix="medtrans-") as home:
        old, work = Path(home) / "old", Path(home) / "work"
        work.mkdir()
        subprocess.run(["git", "-C", str(ROOT), "worktree", "add", "--detach", str(old), ref], check=True)
        try:
            faults = [*configs(old, work), *(fault for name in RUNS for fault in run(name, old, work))]
        finally:
            subprocess.run(["git", "-C", str(ROOT), "worktree", "remove", "--force", str(old)], check=True)
    print("\n".join(faults) or "all alike")
    raise SystemExit(bool(faults))


def configs(old: Path, work: Path) -> list[str]:
    """Every config that both ship has the same settings."""
    both = [path.relative_to(ROOT) for path in sorted((ROOT / "configs").rglob("*.yaml"))]
    both = [path for path in both if (old / path).is_file()]
    sides = []
    for root in (old, ROOT):
        # Both read the same files, of the older commit, so that only the code differs.
        names = [str(old / path) for path in both]
        sides.append(json.loads(python(root, work, "-c", SETTINGS, *names)))
    print(f"{len(both)} configs")
    return [f"{name}: other settings" for name in sides[0] if sides[0][name] != sides[1][name]]


def run(name: str, old: Path, work: Path) -> list[str]:
    """A run, its export and its second half."""
    kept, stopped, export = work / name, work / f"{name}_stopped", work / f"{name}_export"
    config = [str(old / "configs" / f"{RUNS[name][0]}.yaml"), *RUNS[name][1:]]
    medtrans(old, work, "run", *config, f"output_dir={kept}")
    medtrans(old, work, "export", str(kept), str(export))
    medtrans(old, work, "run", *config, f"output_dir={stopped}")
    for folder in (stopped / "checkpoints").iterdir():  # as if it had been killed after its third step
        if folder.name.startswith("step_") and folder.name > "step_00000003":
            subprocess.run(["rm", "-r", str(folder)], check=True)
    image = next(iter(sorted((kept / "predictions").glob("*.nii.gz"))))
    faults = []
    for source in (kept, export):
        images = []
        for root, side in ((old, "old"), (ROOT, "new")):
            out = work / f"{source.name}_{side}.nii.gz"
            medtrans(root, work, "predict", str(source), str(image), str(out))
            images.append(sha(out))
        if images[0] != images[1]:
            faults.append(f"{source.name}: predictions differ")
    medtrans(ROOT, work, "run", str(stopped / "config.yaml"), "--resume")
    last = "checkpoints/step_00000006"
    weights = [{path.name: sha(path) for path in (root / last).glob("*.safetensors")} for root in (kept, stopped)]
    if not weights[0] or weights[0] != weights[1]:
        faults.append(f"{name}: the resumed run ends with other weights")
    if read_scores(kept) != read_scores(stopped):
        faults.append(f"{name}: other scores")
    print(f"{name}: {'; '.join(faults) or 'alike'}")
    return faults


def read_scores(run_folder: Path) -> str:
    """The table of scores."""
    return (run_folder / "metrics.csv").read_text(encoding="utf-8")


def medtrans(root: Path, work: Path, *words: str) -> None:
    """A verb of the code under `root`."""
    python(root, work, "-m", "medtrans", *words)


def python(root: Path, work: Path, *words: str) -> str:
    """Python with the code under `root`; returns what it prints."""
    sources = [root / "src", *sorted((root / "plugins").glob("*/src"))]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, sources)), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *words], cwd=work, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{root}: {' '.join(words)}\n{done.stderr}")
    return done.stdout


def sha(path: Path) -> str:
    """Of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    main(*sys.argv[1:])
