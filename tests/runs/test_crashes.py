"""Killed at any moment, also inside a save, a run loses what came after its last checkpoint and nothing else."""

from __future__ import annotations

import errno
import os
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from medtrans import DataError, SetupError
from medtrans.runs import checkpoint
from medtrans.utils.files import check_disk_space
from tests.helpers.processes import Mishap, config_of, fingerprint, trained

KILLED = -9


@pytest.mark.parametrize(
    "many",
    [
        pytest.param(False, marks=pytest.mark.slow, id="a few times"),
        pytest.param(True, marks=[pytest.mark.soak, pytest.mark.timeout(3600)], id="many times"),
    ],
)
def test_a_run_killed_at_any_moment_is_resumed_to_the_same_end(
    tmp_path: Path, request: pytest.FixtureRequest, many: bool
) -> None:
    kills, cache = request.config.getoption("--kills") if many else 4, tmp_path / "cache"
    seconds = {"steps": 200, "validate_every": 60, "checkpoint_every": 25}
    codes, said = trained(config_of(tmp_path / "alone", **seconds), cache)
    assert codes == [0], said
    expected = fingerprint(tmp_path / "alone")
    draw = random.Random(1)
    for trial in range(kills):
        config = config_of(tmp_path / f"run{trial}", workers=trial % 2, **seconds)
        # A save synchronises about 7 files and folders, and there are 10 saves or more.
        aimed = trial % 10 == 0
        mishap = Mishap(saving=draw.randrange(10, 50)) if aimed else Mishap(after_s=draw.uniform(0, 0.8))
        codes, said = trained(config, cache, mishap=mishap)
        assert codes == [KILLED], said
        left = tmp_path / f"run{trial}" / "checkpoints"
        assert checkpoint.newest(left) is not None
        codes, said = trained(config, cache, resume=True)
        assert codes == [0], said
        assert fingerprint(tmp_path / f"run{trial}") == expected
        shutil.rmtree(tmp_path / f"run{trial}")


def save(folder: Path, step: int) -> Path:
    weights = {"generator": {"weight": torch.full((6,), float(step))}, "discriminator": {"weight": torch.ones(3)}}
    return checkpoint.save(folder, step, weights, {"method": {"lr": 0.1}}, config_hash="c0ffee", keep=2)


def test_each_damage_to_the_newest_checkpoint_is_found_and_the_one_before_it_is_used(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    flips = request.config.getoption("--flips")
    save(tmp_path, 1)
    newest = save(tmp_path, 2)
    files = sorted(newest.iterdir())
    draw = random.Random(2)
    for trial in range(flips + flips // 4):
        path = draw.choice(files)
        whole = path.read_bytes()
        if trial < flips:
            damaged = bytearray(whole)
            damaged[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
            path.write_bytes(damaged)
        else:
            path.write_bytes(whole[: draw.randrange(len(whole))])
        found = checkpoint.newest(tmp_path)
        assert found is not None
        assert found.step == 1
        assert any(path.name in reason for reason in found.skipped)
        path.write_bytes(whole)
    found = checkpoint.newest(tmp_path)
    assert found is not None
    assert (found.step, found.skipped) == (2, ())
    for step in (1, 2):
        (tmp_path / f"step_{step:08d}" / "manifest.json").unlink()
    with pytest.raises(DataError, match="no checkpoint is whole"):
        checkpoint.newest(tmp_path)


class FullDisk:
    """Fails the n-th of the calls that put something on disk, and all that follow, as a full disk does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, allowed: int) -> None:
        self.allowed = allowed
        self.failed = False
        for owner, name in ((Path, "write_bytes"), (Path, "write_text"), (Path, "mkdir"), (Path, "rename"),
                            (Path, "replace"), (os, "fsync")):  # fmt: skip
            monkeypatch.setattr(owner, name, self.counted(getattr(owner, name)))
        monkeypatch.setattr(checkpoint, "save_file", self.counted(checkpoint.save_file))  # type: ignore[attr-defined]  # a name that the module imports

    def counted(self, real: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            self.allowed -= 1
            if self.allowed < 0:
                self.failed = True
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(*arguments, **options)

        return call


@pytest.mark.parametrize("allowed", range(10))
def test_a_disk_that_is_full_from_any_write_on_costs_no_older_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allowed: int
) -> None:
    for step in (1, 2):
        checkpoint.mark(tmp_path, "last", save(tmp_path, step))
    with monkeypatch.context() as patched:
        disk = FullDisk(patched, allowed)
        with pytest.raises(SetupError, match=f"{tmp_path}.*the disk is full.*bytes free"):
            checkpoint.mark(tmp_path, "last", save(tmp_path, 3))
    assert disk.failed
    assert [checkpoint.read(tmp_path / f"step_{step:08d}").step for step in (1, 2)] == [1, 2]
    assert '"step_00000002"' in (tmp_path / "last.json").read_text()
    assert not list(tmp_path.glob(".part*"))


def test_too_little_room_is_told_with_numbers_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, 1)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10))
    with pytest.raises(SetupError, match=r"nearly full: a checkpoint needs [\d,]+ bytes, 10 are free"):
        save(tmp_path, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000001"]
    with pytest.raises(SetupError, match="two checkpoints need about 64 bytes, 10 are free"):
        check_disk_space(tmp_path / "not" / "yet", 64, what="two checkpoints need about")
