"""Interrupted anywhere and resumed, a run ends bit for bit as the one left alone, with any workers and ranks."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from medtrans.runs import checkpoint
from tests.helpers.processes import Mishap, config_of, fingerprint, trained


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> dict[int, dict[str, str]]:
    """By the number of ranks, what a run that nobody disturbs ends as."""
    found = {}
    for ranks in (1, 2):
        folder = tmp_path_factory.mktemp("alone") / "run"
        codes, said = trained(config_of(folder), cache, ranks=ranks)
        assert codes == [0] * ranks, said
        found[ranks] = fingerprint(folder)
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("workers", "ranks", "done"),  # interrupted amid an epoch after 5 steps, at its end after 6; each pair once
    [(0, 1, 5), (2, 1, 6), (0, 2, 6), (2, 2, 5)],
)
def test_an_interrupted_run_ends_as_the_one_left_alone(tmp_path, cache, alone, workers, ranks, done):
    # An epoch has 3 cases * 2 patches: 3 steps on one rank, 1.5 on two.
    config = config_of(tmp_path / "run", workers=workers)
    mishap = Mishap(step=done - 1, number=signal.SIGTERM, rank=ranks - 1)
    codes, said = trained(config, cache, ranks=ranks, mishap=mishap)
    assert codes == [75] * ranks, said
    found = checkpoint.newest(tmp_path / "run" / "checkpoints")
    assert found is not None
    assert found.step == done
    codes, said = trained(config, cache, resume=True, ranks=ranks)
    assert codes == [0] * ranks, said
    assert fingerprint(tmp_path / "run") == alone[ranks]
