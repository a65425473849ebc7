"""A checkpoint is whole or absent, damage is found, and the newest good one is used."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from medtrans import checkpoint
from medtrans.errors import DataError, SetupError


def save(folder: Path, step: int, *, keep: int = 2) -> Path:
    weights = {"generator": {"a.weight": torch.arange(6.0).reshape(2, 3).t() + step, "b": torch.tensor(step)}}
    state = {"method": {"optimizers": {"lr": 0.1}}, "best_score": None, "history": {"l1": [[1.0, 2.0]]}}
    return checkpoint.save(folder, step, weights, state, config_hash="c0ffee", keep=keep)


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    save(tmp_path, 3)
    found = checkpoint.newest(tmp_path)
    assert found is not None
    assert (found.step, found.config_hash, found.skipped) == (3, "c0ffee", ())
    assert torch.equal(found.networks()["generator"]["a.weight"], torch.arange(6.0).reshape(2, 3).t() + 3)
    assert found.state()["history"] == {"l1": [[1.0, 2.0]]}


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert checkpoint.newest(tmp_path) is None
    assert checkpoint.best(tmp_path) is None


def test_old_ones_are_pruned_but_never_the_best(tmp_path: Path) -> None:
    checkpoint.mark(tmp_path, "best", save(tmp_path, 1))
    for step in range(2, 6):
        save(tmp_path, step)
    assert sorted(path.name for path in tmp_path.glob("step_*")) == ["step_00000001", "step_00000004", "step_00000005"]
    best = checkpoint.best(tmp_path)
    assert best is not None
    assert best.step == 1


@pytest.mark.parametrize("name", ["generator.safetensors", "state.pt", "manifest.json"])
def test_every_flipped_bit_and_every_truncation_is_found(tmp_path: Path, name: str) -> None:
    path = save(tmp_path, 1) / name
    whole = path.read_bytes()
    draw = random.Random(name)
    for _ in range(60):
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


def test_a_missing_or_foreign_file_is_found(tmp_path: Path) -> None:
    folder = save(tmp_path, 1)
    (folder / "extra.bin").write_bytes(b"")
    with pytest.raises(DataError, match=r"extra\.bin"):
        checkpoint.read(folder)


def test_the_newest_whole_one_is_used_and_the_damaged_are_named(tmp_path: Path) -> None:
    save(tmp_path, 1)
    (save(tmp_path, 2) / "state.pt").write_bytes(b"gone")
    found = checkpoint.newest(tmp_path)
    assert found is not None
    assert found.step == 1
    assert any("step_00000002/state.pt" in reason for reason in found.skipped)


def test_if_none_is_whole_that_is_an_error(tmp_path: Path) -> None:
    (save(tmp_path, 1) / "manifest.json").unlink()
    with pytest.raises(DataError, match="no checkpoint is whole"):
        checkpoint.newest(tmp_path)


def test_a_failed_write_leaves_the_older_ones_and_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, 1)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(SetupError, match="the disk is full"):
        save(tmp_path, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000001"]
    assert checkpoint.read(tmp_path / "step_00000001").step == 1


def test_a_state_that_wants_to_run_code_is_refused(tmp_path: Path) -> None:
    folder = save(tmp_path, 1)
    marker = tmp_path / "ran"

    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (marker,))

    torch.save({"method": Evil()}, folder / "state.pt")
    manifest = json.loads((folder / "manifest.json").read_text())
    with pytest.raises(DataError):
        checkpoint.read(folder)
    assert manifest["step"] == 1
    with pytest.raises(Exception, match=r"[Ww]eights"):
        checkpoint.Checkpoint(folder, 1, "c0ffee").state()
    assert not marker.exists()


def test_a_mark_that_points_elsewhere_is_refused(tmp_path: Path) -> None:
    (tmp_path / "best.json").write_text('{"checkpoint": "../../etc"}')
    with pytest.raises(DataError, match=r"best\.json"):
        checkpoint.best(tmp_path)
