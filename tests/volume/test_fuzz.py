"""Mutated images, split files and configs: each is read or refused by name, and nothing else happens.

`MEDTRANS_FUZZ=100000 pytest tests/volume/test_fuzz.py` reads that many instead of 1,500; a find is a kind and a number,
and `tests.helpers.fuzzing.files_of_case(kind, number)` gives its files.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.fuzzing import KINDS, files_of_case

CASES = int(os.environ.get("MEDTRANS_FUZZ", "1500"))
ROOT = Path(__file__).parents[2]


def finds(kind: str, count: int, folder: Path) -> list[str]:
    """What reading `count` cases of a kind brought to light."""
    found, first = [], 0
    while first < count and len(found) < 20:
        result = subprocess.run(
            [sys.executable, "-W", "error", "-m", "tests.helpers.fuzzing", kind, str(first), str(count), str(folder)],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        number = first
        for line in result.stdout.splitlines():
            if line.isdigit():
                number = int(line)
            else:
                found.append(f"{kind} {number}: {json.loads(line)}")
        if result.returncode == 0:
            break
        found.append(f"{kind} {number}: the process ended with {result.returncode}: {result.stderr[-500:]}")
        first = number + 1
        for entry in folder.iterdir():
            entry.unlink()
    return found


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.parametrize("kind", KINDS)
def test_many_more_mutated_files(kind: str, tmp_path: Path) -> None:
    assert finds(kind, round(20_000 * KINDS[kind][0]), tmp_path) == []


@pytest.mark.timeout(0 if CASES > 1500 else 300)
@pytest.mark.parametrize("kind", KINDS)
def test_a_mutated_file_is_read_or_refused_by_name_and_nothing_else_happens(kind: str, tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "canary").write_text("as it was")
    assert finds(kind, round(CASES * KINDS[kind][0]), tmp_path / "inner") == []
    assert {entry.name for entry in tmp_path.iterdir()} == {"inner", "canary"}
    assert (tmp_path / "canary").read_text() == "as it was"


@pytest.mark.parametrize("kind", KINDS)
def test_a_find_is_made_again_by_its_number(kind: str) -> None:
    assert files_of_case(kind, 7) == files_of_case(kind, 7) != files_of_case(kind, 8)
