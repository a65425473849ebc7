"""Owns the check that a patient in two splits stops a run."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from medtrans.config import load_config
from medtrans.errors import DataError
from medtrans.selftest.quiet import quiet
from medtrans.study import Study, gather_cohort
from medtrans.volume import Volume, write

__all__ = ["check"]


def check(folder: Path) -> tuple[bool, str]:
    """Plant each kind of leak in a sound cohort, and look at the sound one too."""
    missed = [kind for kind, plant in LEAKS.items() if not _refused(folder, kind, plant)]
    false = _refused(folder, "none", lambda rows, home: None)
    figure = f"{len(LEAKS)} kinds of leak, {len(missed)} missed, {int(false)} false alarms"
    return not missed and not false, figure if not missed else f"{figure}: {missed[0]}"


Rows = list[list[str]]
"""Subject, split, source and target of each case."""


def _refused(folder: Path, kind: str, plant: Callable[[Rows, Path], None]) -> bool:
    home = folder / kind.replace(" ", "_")
    home.mkdir()
    rows: Rows = []
    for number, split in enumerate(("train", "train", "validation", "test")):
        names = [f"{modality}_{number}.nii.gz" for modality in ("t1", "t2")]
        for name, volume in zip(names, _pair(number), strict=True):
            write(volume, home / name)
        rows.append([f"S{number}", split, *names])
    plant(rows, home)
    text = "\n".join(",".join(row) for row in [["subject", "split", "t1", "t2"], *rows])
    (home / "cases.csv").write_text(text, encoding="utf-8")
    window = {"name": "window", "options": {"range": [0.0, 1000.0], "unit": ""}}
    experiment = load_config(
        [
            {
                "output_dir": str(home / "run"),
                "dataset": {"name": "table", "options": {"path": str(home / "cases.csv")}},
                "split": {"by": "column"},
                "source": ["t1"],
                "target": ["t2"],
                "preprocess": {"intensity": {"t1": window, "t2": window}},
                "losses": {"l1": {}},
                "discriminator": None,
            }
        ]
    )
    try:
        with quiet():
            Study(experiment, gather_cohort(experiment)[0], home / "cache").prepare()
    except DataError:
        return True
    return False


def _pair(seed: int) -> tuple[Volume, Volume]:
    rng = np.random.default_rng(seed)
    one, other = (Volume(rng.integers(0, 900, (8, 8, 8)).astype(np.int16), np.eye(4)) for _ in range(2))
    return one, other


def _same_subject(rows: Rows, home: Path) -> None:
    rows[3][0] = rows[0][0]


def _same_but_for_case(rows: Rows, home: Path) -> None:
    rows[3][0] = f" {rows[0][0].lower()} "


def _same_file(rows: Rows, home: Path) -> None:
    rows[3][2:] = rows[0][2:]


def _linked(rows: Rows, home: Path) -> None:
    (home / rows[3][2]).unlink()
    (home / rows[3][2]).symlink_to(home / rows[0][2])


def _copied(rows: Rows, home: Path) -> None:
    shutil.copyfile(home / rows[0][2], home / rows[3][2])


def _packed_again(rows: Rows, home: Path) -> None:
    content = gzip.decompress((home / rows[0][2]).read_bytes())
    (home / rows[3][2]).write_bytes(gzip.compress(content, 9, mtime=1))


LEAKS: Mapping[str, Callable[[Rows, Path], None]] = {
    "one subject in two splits": _same_subject,
    "one subject written twice": _same_but_for_case,
    "one file under two subjects": _same_file,
    "a link to a training scan": _linked,
    "a copy of a training scan": _copied,
    "a training scan packed again": _packed_again,
}
