"""A checkpoint is whole or absent, damage is found, and the newest good one is used."""

from __future__ import annotations

import hashlib
import json
import os
import random
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medtrans.errors import DataError, SetupError
from medtrans.runs import checkpoint


def save(folder: Path, step: int, *, keep: int = 2) -> Path:
    weights = {"generator": {"a.weight": torch.arange(6.0).reshape(2, 3).t() + step, "b": torch.tensor(step)}}
    state = {"method": {"optimizers": {"lr": 0.1}}, "best_score": None, "history": {"l1": [[1.0, 2.0]]}}
    return checkpoint.save(folder, step, weights, state, config_hash="c0ffee", keep=keep)


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    save(tmp_path, 3)
    found = checkpoint.newest(tmp_path)
    assert (found.step, found.config_hash, found.skipped) == (3, "c0ffee", ())
    assert torch.equal(found.networks()["generator"]["a.weight"], torch.arange(6.0).reshape(2, 3).t() + 3)
    assert found.state()["history"] == {"l1": [[1.0, 2.0]]}
    assert checkpoint.newest(tmp_path / "empty") is checkpoint.best(tmp_path) is None


def test_old_ones_are_pruned_but_never_the_best(tmp_path: Path) -> None:
    checkpoint.mark(tmp_path, "best", save(tmp_path, 1))
    for step in range(2, 6):
        save(tmp_path, step)
    assert sorted(path.name for path in tmp_path.glob("step_*")) == ["step_00000001", "step_00000004", "step_00000005"]
    assert checkpoint.best(tmp_path).step == 1


@pytest.mark.parametrize("name", ["generator.safetensors", "state.pt", "manifest.json"])
def test_every_flipped_bit_and_every_truncation_is_found(tmp_path: Path, name: str) -> None:
    path = save(tmp_path, 1) / name
    whole = path.read_bytes()
    draw = random.Random(name)
    for _ in range(40):
        damaged = bytearray(whole)
        damaged[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=name):
            checkpoint.read(path.parent)
    for _ in range(10):
        path.write_bytes(whole[: draw.randrange(len(whole))])
        with pytest.raises(DataError, match=name):
            checkpoint.read(path.parent)
    path.write_bytes(whole)
    assert checkpoint.read(path.parent).step == 1
    (path.parent / "extra.bin").write_bytes(b"")
    with pytest.raises(DataError, match=r"extra\.bin"):
        checkpoint.read(path.parent)


def signed(folder: Path) -> None:
    """Make the manifest fit the files, as somebody with ill intent would."""
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["self"]
    for name in manifest["sha256"]:
        content = (folder / name).read_bytes()
        manifest["sha256"][name], manifest["bytes"][name] = hashlib.sha256(content).hexdigest(), len(content)
    manifest["self"] = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_code_in_a_state_never_runs_even_if_every_hash_fits(tmp_path: Path) -> None:
    folder, marker = save(tmp_path, 1), tmp_path / "ran"

    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (marker,))

    torch.save({"method": Evil()}, folder / "state.pt")
    signed(folder)
    (folder / "generator.safetensors").write_bytes(b"not safetensors")
    signed(folder)
    with pytest.raises(DataError, match=r"step_00000001/state\.pt: not a state"):
        checkpoint.read(folder).state()
    with pytest.raises(DataError, match="step_00000001: weights"):
        checkpoint.read(folder).networks()
    assert not marker.exists()


@pytest.mark.parametrize("value", [np.float64(1), Path("here"), lambda: None], ids=["numpy", "path", "function"])
def test_a_state_that_could_not_be_read_back_is_refused_when_it_is_saved(tmp_path: Path, value: Any) -> None:
    save(tmp_path, 1)
    with pytest.raises(SetupError, match="state_dict"):
        checkpoint.save(tmp_path, 2, {}, {"method": {"it": value}}, config_hash="c0ffee", keep=2)
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000001"]


def test_damage_costs_no_whole_checkpoint(tmp_path: Path) -> None:
    for step in (1, 2, 5):
        save(tmp_path, step)
    (tmp_path / "step_00000005" / "state.pt").write_bytes(b"gone")
    save(tmp_path, 3)  # the damaged one does not count among the two that are kept
    assert [checkpoint.read(tmp_path / f"step_{step:08d}").step for step in (2, 3)] == [2, 3]
    (tmp_path / "best.json").write_text("{")  # so that nobody knows which is the best
    save(tmp_path, 6)
    save(tmp_path, 7)
    assert all((tmp_path / f"step_{step:08d}").exists() for step in (2, 3, 6, 7))
    (tmp_path / "best.json").write_text('{"checkpoint": "../../etc"}')
    with pytest.raises(DataError, match=r"best\.json"):
        checkpoint.best(tmp_path)


def test_what_a_killed_process_left_is_cleared_away_and_the_umask_says_who_may_read(tmp_path: Path) -> None:
    left = tmp_path / ".part-step_00000007"
    left.mkdir()
    (left / "state.pt").write_bytes(b"half")
    previous = os.umask(0o027)
    try:
        save(tmp_path, 8)
    finally:
        os.umask(previous)
    (folder,) = tmp_path.iterdir()
    assert (folder.name, stat.S_IMODE(folder.stat().st_mode)) == ("step_00000008", 0o750)
