"""The checks of what a run leaves on disk: damaged checkpoints, shared folders, runs that were ended or killed."""

from __future__ import annotations

import hashlib
import json
import random
import signal
import subprocess  # noqa: TID251 -- a run that is killed needs a process of its own
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from medtrans.errors import ConfigError, SetupError
from medtrans.pipeline import run
from medtrans.runs import checkpoint
from medtrans.runs.folder import RunFolder

__all__ = ["check_checkpoint", "check_kill", "check_lock", "check_resume"]

FLIPS, CUTS = 100, 25


def check_checkpoint(folder: Path) -> tuple[bool, str]:
    """Flip bits of the newest of two checkpoints, and cut it short, file by file."""
    for step in (1, 2):
        weights = {"generator": {"weight": torch.arange(64.0) + step, "bias": torch.ones(4)}}
        newest = checkpoint.save(folder, step, weights, {"rates": [0.1, 0.2]}, config_hash="", keep=2)
    files = sorted(newest.iterdir())
    draw = random.Random(0)  # noqa: S311 -- places of damage, nobody's secret
    missed = 0
    for number in range(FLIPS + CUTS):
        file = files[number % len(files)]
        whole = file.read_bytes()
        place = draw.randrange(len(whole) - 2)
        damaged = bytearray(whole) if number < FLIPS else bytearray(whole[:place])
        if number < FLIPS:
            damaged[place] ^= 1 << draw.randrange(8)
        file.write_bytes(damaged)
        found = checkpoint.newest(folder)
        missed += int(found is None or found.step != 1 or not found.skipped)
        file.write_bytes(whole)
    whole_again = checkpoint.newest(folder)
    sound = whole_again is not None and whole_again.step == 2
    return missed == 0 and sound, f"{FLIPS} flipped bits and {CUTS} cuts, {missed} not found"


def check_lock(folder: Path) -> tuple[bool, str]:
    """Take a folder, and ask for it again; lead a folder out of itself, and ask for that."""
    refused = 0
    held = RunFolder.claim(folder / "held", resume=False, overwrite=False)
    try:
        RunFolder.claim(folder / "held", resume=False, overwrite=True)
    except SetupError as error:
        refused += "is used by process" in str(error)
    held.release()
    (held.path / "config.yaml").touch()
    (held.path / "pictures").symlink_to(folder)
    try:
        RunFolder.claim(folder / "held", resume=True, overwrite=False)
    except ConfigError as error:
        refused += "leads out" in str(error)
    return refused == 2 and not held.lock.exists(), f"{refused} of 2 folders refused"


_STEPS = 6
_LIMIT_S = 120


def check_resume(folder: Path) -> tuple[bool, str]:
    """End a run after half its steps, go on, and compare with one that went through."""
    straight = _straight(folder)
    run(_config(folder / "halved"), [f"train.steps={_STEPS // 2}"])
    run(_config(folder / "halved"), resume=True)
    equal, count = _compared(straight, folder / "halved")
    return equal == count, f"{equal} of {count} tensors bit-identical after {_STEPS} steps"


def check_kill(folder: Path) -> tuple[bool, str]:
    """Kill a run (-9) while it trains, go on, and compare with one that went through."""
    straight = _straight(folder)
    home = folder / "killed"
    config = folder / "killed.json"
    config.write_text(json.dumps(_config(home)), encoding="utf-8")  # JSON is YAML
    command = [sys.executable, "-m", "medtrans", "run", str(config)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:  # noqa: S603 -- our own verb
        limit = time.monotonic() + _LIMIT_S
        while child.poll() is None:
            if any(path.name > "step_00000000" for path in (home / "checkpoints").glob("step_*")):
                break  # it has trained
            if time.monotonic() > limit:
                child.kill()
                raise SetupError(f"a run of {_STEPS} tiny steps left no checkpoint within {_LIMIT_S} s")
            time.sleep(0.01)
        child.send_signal(signal.SIGKILL)
    if child.returncode != -signal.SIGKILL:
        return False, f"the run could not be killed: it had ended with {child.returncode}"
    found = checkpoint.newest(home / "checkpoints")
    step = 0 if found is None else found.step
    run(_config(home), resume=True)
    equal, count = _compared(straight, home)
    return equal == count and step > 0, f"killed with step {step} on disk; {equal} of {count} tensors bit-identical"


def _straight(folder: Path) -> Path:
    """A run without interruption, made once for both checks."""
    home = folder.parent / "straight"
    if not home.is_dir():
        run(_config(home))
    return home


def _config(home: Path) -> dict[str, Any]:
    return {
        "output_dir": str(home),
        "dataset": {"name": "phantom", "options": {"subjects": 3, "size": [16, 16, 16]}},
        "split": {"by": "fractions", "train": 0.34, "validation": 0.33, "test": 0.33},
        "source": ["t1"],
        "target": ["t2"],
        "preprocess": {"intensity": {"t1": {"name": "percentile"}, "t2": {"name": "percentile"}}},
        "patch": {"size": [16, 16, 16]},
        "generator": {"name": "mdaunet", "options": {"preset": "fast", "width": 4, "growth": [4, 4]}},
        "discriminator": {"name": "multires_unet", "options": {"width": 2, "convs": 1}},
        "losses": {"l1": {}, "relativistic": {"weight": 1e-4}},
        "method": {"name": "paired", "options": {"ema": 0.9, "pool_size": 2}},
        "metrics": {"psnr": {}},
        "callbacks": {},
        "train": {"steps": _STEPS, "batch": 2, "workers": 0, "validate_every": _STEPS, "checkpoint_every": 1},
        "inference": {"overlap": 0.25, "batch": 4},
    }


def _compared(one: Path, other: Path) -> tuple[int, int]:
    """How many tensors of two runs' last checkpoints are equal, of how many."""
    first, second = (dict(_digests(folder)) for folder in (one, other))
    equal = sum(first[name] == second.get(name) for name in first)
    return equal, len(first.keys() | second.keys())


def _digests(folder: Path) -> Iterator[tuple[str, str]]:
    """A hash of each tensor of the weights and of the method's state: optimisers, averages, pools."""
    found = checkpoint.newest(folder / "checkpoints")
    if found is not None:
        yield "step", str(found.step)
        yield from _tensors("networks", found.networks())
        yield from _tensors("method", found.state()["method"])


def _tensors(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, torch.Tensor):
        content = value.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        yield name, hashlib.sha256(content + str((value.dtype, tuple(value.shape))).encode()).hexdigest()
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _tensors(f"{name}.{key}", inner)
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from _tensors(f"{name}.{index}", inner)
    else:
        yield name, repr(value)
