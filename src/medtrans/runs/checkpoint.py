"""Checkpoints: written whole or not at all, hashed, verified before they count, read without running code.

Weights are safetensors. The rest of the state is torch's own format, loaded with `weights_only=True`. The manifest has
a hash of every file and of itself, so that what a full disk or a bad cable did is found before training goes on.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from medtrans._version import __version__
from medtrans.errors import DataError, SetupError
from medtrans.utils.files import check_disk_space, synchronise, unwritable, write_json

__all__ = ["Checkpoint", "at_step", "best", "mark", "newest", "read", "read_state", "save", "state_bytes", "unmark"]


def state_bytes(state: Mapping[str, Any], name: str) -> memoryview:
    """The state as a file holds it; through memory, since torch's own writer reports a full disk without its name.

    What could not be read back is refused now, rather than when a run of days is to be resumed.

    Raises:
        SetupError: the state holds other than tensors and plain values.
    """
    buffer = io.BytesIO()
    try:
        torch.save(dict(state), buffer)
        buffer.seek(0)
        read_state(buffer, name)
    except (DataError, pickle.PicklingError, AttributeError, TypeError) as error:
        raise SetupError(
            f"{name}: the method's state_dict() may hold tensors and plain Python values only ({error})"
        ) from error
    return buffer.getbuffer()


def read_state(file: Path | io.BytesIO, name: str) -> dict[str, Any]:
    """What `state_bytes` made a file of, on the host.

    Raises:
        DataError: it holds anything else, which is not loaded since it may run code.
    """
    # What a damaged or hostile file makes torch raise, of any kind.
    odd = (pickle.UnpicklingError, RuntimeError, EOFError, LookupError, ValueError, TypeError, AttributeError)
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except odd as error:
        first = str(error).partition(". ")[0]
        raise DataError(f"{name}: not a state of weights and plain values, so it is not loaded ({first})") from error
    if not isinstance(state, dict):
        raise DataError(f"{name}: expected a mapping, found {type(state).__name__}")
    return state


_NAME = re.compile(r"step_\d{8,}")
_PART = ".part-"
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
        facts: what else its manifest says of the run.
    """

    folder: Path
    step: int
    config_hash: str
    skipped: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    def networks(self) -> dict[str, dict[str, Tensor]]:
        """The weights by network, on the host.

        Raises:
            DataError: a file is not safetensors.
        """
        paths = sorted(self.folder.glob("*.safetensors"))
        try:
            return {path.stem: load_file(path) for path in paths}
        except (SafetensorError, OSError) as error:
            raise DataError(f"{self.folder.name}: weights cannot be read ({error})") from error

    def state(self) -> dict[str, Any]:
        """All else, tensors and plain Python values only.

        Raises:
            DataError: the file holds anything else, which is never loaded since it may run code.
        """
        return read_state(self.folder / _STATE, f"{self.folder.name}/{_STATE}")


def save(
    folder: Path,
    step: int,
    networks: Mapping[str, Mapping[str, Tensor]],
    state: Mapping[str, Any],
    *,
    config_hash: str,
    keep: int,
    facts: Mapping[str, Any] = MappingProxyType({}),
) -> Path:
    """Write a checkpoint, verify it, give it its name, and only then prune older ones.

    Once there are two that are whole, there are never fewer, whenever the process is killed.

    Args:
        folder: where checkpoints are.
        step: steps done.
        networks: weights by network.
        state: all else that resuming needs: tensors and plain Python values.
        config_hash: of the config.
        keep: how many to leave, the one marked best not counted.
        facts: what the manifest is to say of the run, plain values.

    Raises:
        SetupError: the disk is full or may not be written, or `state` holds other than plain values; older checkpoints
            are as they were.
    """
    final = folder / f"step_{step:08d}"
    temporary = folder / f"{_PART}{final.name}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(f"{_PART}*/"):
            # Left by a process that was killed while it wrote or pruned.
            shutil.rmtree(left, ignore_errors=True)
        content = state_bytes(state, _STATE)
        weights = sum(tensor.nbytes for own in networks.values() for tensor in own.values())
        check_disk_space(folder, content.nbytes + weights)
        temporary.mkdir()
        _write(temporary, networks, content, {"step": step, "config_hash": config_hash, "facts": dict(facts)})
        # Read back from the disk before it has a name: a checkpoint that is named is one that was whole.
        _verify(temporary)
        if final.exists():
            _discard(final)
        temporary.rename(final)
        synchronise(folder)
    except (OSError, SafetensorError) as error:
        raise unwritable(folder, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    _prune(folder, keep)
    return final


def mark(folder: Path, name: str, checkpoint: Path, **details: Any) -> None:
    """Let `<name>.json` ("last", "best") point to a checkpoint.

    Raises:
        SetupError: the disk is full or may not be written; the mark is as it was.
    """
    try:
        write_json(folder / f"{name}.json", {"checkpoint": checkpoint.name, **details})
    except OSError as error:
        raise unwritable(folder, error) from error


def unmark(folder: Path, name: str) -> None:
    """Take a mark away."""
    (folder / f"{name}.json").unlink(missing_ok=True)


def at_step(folder: Path, step: int) -> Checkpoint | None:
    """The checkpoint of a step, or None where it is not there or not whole."""
    with suppress(DataError):
        return read(folder / f"step_{step:08d}")
    return None


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
        return replace(found, skipped=tuple(skipped))
    if skipped:
        raise DataError(*skipped, f"{folder}: no checkpoint is whole; begin anew with --overwrite")
    return None


def read(folder: Path) -> Checkpoint:
    """A checkpoint, after every file was hashed.

    Raises:
        DataError: a file is missing, longer or shorter, or differs from what was written.
    """
    manifest = _verify(folder)
    return Checkpoint(folder, manifest["step"], manifest["config_hash"], facts=manifest.get("facts", {}))


def _write(
    folder: Path, networks: Mapping[str, Mapping[str, Tensor]], state: memoryview, facts: Mapping[str, Any]
) -> None:
    for name, weights in networks.items():
        # safetensors refuses tensors that are not contiguous or that share memory.
        plain = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in weights.items()}
        # One entry only: safetensors writes several in any order, and equal weights shall be equal files.
        save_file(plain, folder / f"{name}.safetensors", metadata={"medtrans": __version__})
    (folder / _STATE).write_bytes(state)
    files = {path.name: _digest(path) for path in sorted(folder.iterdir())}
    sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
    manifest = {**facts, "medtrans": __version__, "sha256": files, "bytes": sizes}
    for path in folder.iterdir():
        synchronise(path)
    write_json(folder / _MANIFEST, {**manifest, "self": _digest_text(manifest)})


def _verify(folder: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        stated = manifest.pop("self")
        hashes, sizes = dict(manifest["sha256"]), dict(manifest["bytes"])
        manifest["step"], manifest["config_hash"] = int(manifest["step"]), str(manifest["config_hash"])
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise DataError(f"{folder.name}/{_MANIFEST}: is missing or damaged ({type(error).__name__})") from error
    if stated != _digest_text(manifest):
        raise DataError(f"{folder.name}/{_MANIFEST}: checksum does not match: the file is damaged")
    present = {path.name for path in folder.iterdir()} - {_MANIFEST}
    if present != set(hashes):
        odd = ", ".join(sorted(present ^ set(hashes)))
        raise DataError(f"{folder.name}: files do not fit its manifest: {odd}")
    for name, expected in hashes.items():
        path = folder / name
        if path.stat().st_size != sizes.get(name) or _digest(path) != expected:
            raise DataError(f"{folder.name}/{name}: checksum does not match: the file is damaged")
    return dict(manifest)


def _prune(folder: Path, keep: int) -> None:
    """Leave the newest `keep` that are whole, at least two, and the best; a damaged one does not count."""
    try:
        spared = _marked(folder, "best")
    except DataError:
        # Which one is best is not known, so that none is removed.
        return
    left = max(keep, 2)
    for checkpoint in sorted(_checkpoints(folder), reverse=True):
        if left > 0:
            with suppress(DataError):
                _verify(checkpoint)
                left -= 1
        elif checkpoint.name != spared:
            # The new checkpoint is safe: one that cannot be removed costs room and is tried again.
            with suppress(OSError):
                _discard(checkpoint)


def _discard(checkpoint: Path) -> None:
    """Remove a checkpoint; under another name first, so that none is ever half there."""
    going = checkpoint.with_name(f"{_PART}old-{checkpoint.name}")
    checkpoint.rename(going)
    shutil.rmtree(going, ignore_errors=True)


def _checkpoints(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from (path for path in folder.iterdir() if _NAME.fullmatch(path.name) and path.is_dir())


def _marked(folder: Path, name: str) -> str | None:
    try:
        marked = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))["checkpoint"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{folder / name}.json: is damaged ({type(error).__name__}); delete it") from error
    if not isinstance(marked, str) or not _NAME.fullmatch(marked):
        raise DataError(f"{folder / name}.json: names no checkpoint; delete it")
    return marked


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest_text(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
