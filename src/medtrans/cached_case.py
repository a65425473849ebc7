"""Owns a prepared case on disk: a folder of `.npy` files beside an `entry.json` with their sizes and hashes."""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from medtrans.atomic import synchronise
from medtrans.preprocess import Prepared
from medtrans.sampling import foreground
from medtrans.volume import Grid

__all__ = ["CachedCase", "read_case", "write_case"]


@dataclass(frozen=True)
class CachedCase:
    """A prepared case whose arrays are mapped read-only from disk.

    Args:
        prepared: the case as networks see it.
        foreground: `(i, j, k)` booleans, where a patch may be centred.
        digests: a hash of each array ("source", "target", "mask", "foreground").
        voxels: a hash of each image's voxels as stored, by modality; none of a constant one.
        notes: by modality, the reading rules that a header did not show to be needed.
    """

    prepared: Prepared
    foreground: np.ndarray
    digests: Mapping[str, str]
    voxels: Mapping[str, str]
    notes: Mapping[str, tuple[str, ...]]

    def release(self) -> None:
        """Give back the memory of all pages that were looked at; the next look maps them again."""
        arrays = (self.prepared.source, self.prepared.target, self.prepared.mask, self.foreground)
        for pages in (array.base for array in arrays if array is not None):
            if isinstance(pages, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
                pages.madvise(mmap.MADV_DONTNEED)


def write_case(
    folder: Path, prepared: Prepared, voxels: Mapping[str, str], notes: Mapping[str, tuple[str, ...]]
) -> None:
    """Write a case into an empty folder, and to the disk.

    Args:
        folder: that exists.
        prepared: the case.
        voxels: as in `CachedCase`.
        notes: as in `CachedCase`.

    Raises:
        OSError: it cannot be written.
    """
    arrays = {
        "source": prepared.source,
        "target": prepared.target,
        "mask": prepared.mask,
        "foreground": foreground(prepared.source, prepared.target),
    }
    files = {}
    for name, array in arrays.items():
        if array is not None:
            path = folder / f"{name}.npy"
            with path.open("wb") as file:
                np.save(file, np.ascontiguousarray(array), allow_pickle=False)
                file.flush()
                os.fsync(file.fileno())
            files[path.name] = (path.stat().st_size, _digest(path))
    facts = {
        "files": files,
        "grid": _plain(prepared.grid),
        "native": _plain(prepared.native),
        "space_code": int(prepared.space_code),
        "numbers": {name: {key: float(x) for key, x in own.items()} for name, own in prepared.numbers.items()},
        "clipped": {name: float(share) for name, share in prepared.clipped.items()},
        "voxels": voxels,
        "notes": notes,
    }
    with (folder / "entry.json").open("w", encoding="utf-8") as text:
        json.dump({"facts": facts, "blake2b": _digest_text(facts)}, text)
        text.flush()
        os.fsync(text.fileno())
    synchronise(folder)


def read_case(folder: Path, *, compare: bool) -> CachedCase:
    """A case as it was written; the files' hashes count where they are to be compared, their sizes always.

    Raises:
        OSError, ValueError, KeyError, TypeError: it is damaged.
    """
    facts = _facts(folder, compare=compare)
    arrays = {
        file.removesuffix(".npy"): np.load(folder / file, mmap_mode="r", allow_pickle=False)  # noqa: TID251 -- without pickles
        for file in facts["files"]
    }
    prepared = Prepared(
        source=arrays["source"],
        target=arrays.get("target"),
        mask=arrays.get("mask"),
        grid=Grid(tuple(facts["grid"]["shape"]), np.array(facts["grid"]["affine"])),
        native=Grid(tuple(facts["native"]["shape"]), np.array(facts["native"]["affine"])),
        space_code=facts["space_code"],
        numbers=facts["numbers"],
        clipped=facts["clipped"],
    )
    digests = {file.removesuffix(".npy"): digest for file, (_, digest) in facts["files"].items()}
    notes = {modality: tuple(own) for modality, own in facts["notes"].items()}
    return CachedCase(prepared, arrays["foreground"], digests, facts["voxels"], notes)


def _facts(folder: Path, *, compare: bool) -> Mapping[str, Any]:
    entry = json.loads((folder / "entry.json").read_text(encoding="utf-8"))
    facts: Mapping[str, Any] = entry["facts"]
    if entry["blake2b"] != _digest_text(facts):
        raise ValueError("entry.json has changed")
    for file, (size, digest) in facts["files"].items():
        if (folder / file).stat().st_size != size or (compare and _digest(folder / file) != digest):
            raise ValueError(f"{file} has changed")
    return facts


def _plain(grid: Grid) -> dict[str, Any]:
    return {"shape": [int(side) for side in grid.shape], "affine": grid.affine.tolist()}


def _digest(path: Path) -> str:
    state = blake2b(digest_size=16)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            state.update(block)
    return state.hexdigest()


def _digest_text(facts: Any) -> str:
    return blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=16).hexdigest()
