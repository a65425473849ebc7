"""The check that a damaged checkpoint is found and the one before it used."""

from __future__ import annotations

import random
from pathlib import Path

import torch

from medtrans.runs import checkpoint

__all__ = ["check"]

FLIPS, CUTS = 100, 25


def check(folder: Path) -> tuple[bool, str]:
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
