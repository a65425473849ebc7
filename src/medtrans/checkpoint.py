"""Owns checkpoints: written whole or not at all, hashed, verified before they count, read without running code."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from medtrans._version import __version__
from medtrans.atomic import write_json
from medtrans.errors import DataError, SetupError

__all__ = ["Checkpoint", "best", "mark", "newest", "read", "save"]

_NAME = re.compile(r"step_\d{8,}")
_STATE = "state.pt"
_MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint.

    Args:
        folder: `step_00001000`, which holds `<network>.safetensors`, `state.pt` and `manifest.json`.
        step: steps done.
        config_hash: of the config it was trained with.
        skipped: why newer ones were passed over.
    """

    folder: Path
    step: int
    config_hash: str
    skipped: tuple[str, ...] = ()

    def networks(self) -> dict[str, dict[str, Tensor]]:
        """The weights by network, on the host."""
        return {path.stem: load_file(path) for path in sorted(self.folder.glob("*.safetensors"))}

    def state(self) -> dict[str, Any]:
        """All else, tensors and plain Python values only."""
        state: dict[str, Any] = torch.load(self.folder / _STATE, map_location="cpu", weights_only=True)
        return state


def save(
    folder: Path,
    step: int,
    networks: Mapping[str, Mapping[str, Tensor]],
    state: Mapping[str, Any],
    *,
    config_hash: str,
    keep: int,
) -> Path:
    """Write a checkpoint, verify it, give it its name, and only then prune older ones.

    Args:
        folder: where checkpoints are.
        step: steps done.
        networks: weights by network.
        state: all else that resuming needs: tensors and plain Python values.
        config_hash: of the config.
        keep: how many to leave, the one marked best not counted.

    Raises:
        SetupError: the disk is full or may not be written; older checkpoints are as they were.
    """
    final = folder / f"step_{step:08d}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".part-", dir=folder))
    except OSError as error:
        raise _unwritable(folder, error) from error
    try:
        _write(temporary, step, networks, state, config_hash)
        _verify(temporary)
        if final.exists():
            shutil.rmtree(final)
        temporary.rename(final)
        _synchronise(folder)
    except (OSError, SafetensorError) as error:
        raise _unwritable(folder, error) from error
    except RuntimeError as error:
        # torch reports a full disk as a RuntimeError of its zip writer.
        raise _unwritable(folder, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    _prune(folder, keep)
    return final


def mark(folder: Path, name: str, checkpoint: Path, **details: Any) -> None:
    """Let `<name>.json` ("last", "best") point to a checkpoint."""
    write_json(folder / f"{name}.json", {"checkpoint": checkpoint.name, **details})


def best(folder: Path) -> Checkpoint | None:
    """The checkpoint marked best, or None where none is marked.

    Raises:
        DataError: it is marked but damaged or gone.
    """
    name = _marked(folder, "best")
    return None if name is None else read(folder / name)


def newest(folder: Path) -> Checkpoint | None:
    """The newest checkpoint that is whole; says in `skipped` which newer ones were not."""
    skipped: list[str] = []
    for candidate in sorted(_checkpoints(folder), reverse=True):
        try:
            found = read(candidate)
        except DataError as error:
            skipped += error.faults
            continue
        return Checkpoint(found.folder, found.step, found.config_hash, tuple(skipped))
    if skipped:
        raise DataError(*skipped, f"{folder}: no checkpoint is whole; begin anew with --overwrite")
    return None


def read(folder: Path) -> Checkpoint:
    """A checkpoint, after every file was hashed.

    Raises:
        DataError: a file is missing, longer or shorter, or differs from what was written.
    """
    manifest = _verify(folder)
    return Checkpoint(folder, int(manifest["step"]), str(manifest["config_hash"]))


def _write(
    folder: Path, step: int, networks: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any], config_hash: str
) -> None:
    for name, weights in networks.items():
        # safetensors refuses tensors that are not contiguous or that share memory.
        plain = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in weights.items()}
        # One entry only: safetensors writes several in any order, and equal weights shall be equal files.
        save_file(plain, folder / f"{name}.safetensors", metadata={"medtrans": __version__})
    torch.save(dict(state), folder / _STATE)
    files = {path.name: _digest(path) for path in sorted(folder.iterdir())}
    sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
    manifest = {"step": step, "config_hash": config_hash, "medtrans": __version__, "sha256": files, "bytes": sizes}
    for path in folder.iterdir():
        _synchronise(path)
    write_json(folder / _MANIFEST, {**manifest, "self": _digest_text(manifest)})


def _verify(folder: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        stated = manifest.pop("self")
        hashes, sizes = dict(manifest["sha256"]), dict(manifest["bytes"])
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise DataError(f"{folder.name}/{_MANIFEST}: is missing or damaged ({type(error).__name__})") from error
    if stated != _digest_text(manifest):
        raise DataError(f"{folder.name}/{_MANIFEST}: checksum does not match: the file is damaged")
    present = {path.name for path in folder.iterdir()} - {_MANIFEST}
    if present != set(hashes):
        odd = ", ".join(sorted(present ^ set(hashes)))
        raise DataError(f"{folder.name}: files do not fit its manifest: {odd}")
    for name, expected in hashes.items():
        path = folder / name
        if path.stat().st_size != sizes[name] or _digest(path) != expected:
            raise DataError(f"{folder.name}/{name}: checksum does not match: the file is damaged")
    return dict(manifest)


def _prune(folder: Path, keep: int) -> None:
    spared = _marked(folder, "best")
    old = sorted(_checkpoints(folder), reverse=True)[max(keep, 2) :]
    for checkpoint in old:
        if checkpoint.name != spared:
            shutil.rmtree(checkpoint, ignore_errors=True)


def _checkpoints(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from (path for path in folder.iterdir() if _NAME.fullmatch(path.name) and path.is_dir())


def _marked(folder: Path, name: str) -> str | None:
    try:
        marked = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))["checkpoint"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder / name}.json: is damaged ({type(error).__name__}); delete it") from error
    if not isinstance(marked, str) or not _NAME.fullmatch(marked):
        raise DataError(f"{folder / name}.json: names no checkpoint; delete it")
    return marked


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest_text(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _synchronise(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unwritable(folder: Path, error: Exception) -> SetupError:
    try:
        free = shutil.disk_usage(folder).free
    except OSError:
        free = -1
    full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
    cause = "the disk is full" if full else str(error)
    return SetupError(
        f"{folder}: a checkpoint could not be written ({cause}; {free:,} bytes free); older ones are as they were. "
        "Make room or choose another output_dir, then --resume"
    )
