"""The disk cache of prepared cases: each is made once, checked when opened, and mapped rather than read."""

from __future__ import annotations

import json
import logging
import mmap
import os
import shutil
import tempfile
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np

from medtrans._version import __version__
from medtrans.data.checks.duplicates import twins, voxel_digest
from medtrans.data.cohort import load_image
from medtrans.data.preprocessing import Prepared
from medtrans.data.sampling import foreground
from medtrans.errors import DataError, SetupError
from medtrans.utils.files import synchronise
from medtrans.utils.messages import capped
from medtrans.volume import NO_RULES, Grid, ReadingRules, files_of, read_header

if TYPE_CHECKING:
    import numpy as np

    from medtrans.data.cohort import Member
    from medtrans.data.preprocessing import Preprocessing
    from medtrans.plugins.interfaces import Case
    from medtrans.volume import Volume

__all__ = ["Cache", "CachedCase", "check_duplicates", "read_case", "write_case"]


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


_FORMAT = 3  # of an entry on disk
_OPEN = 16  # entries mapped at a time: each holds up to four files open, and processes may open about a thousand
_ATTEMPTS = 3


class Cache:
    """Prepared cases in a folder, which several processes may use at once and anybody may delete between runs.

    An entry is a folder of uncompressed `.npy` files beside an `entry.json` with their sizes and hashes. Its name is
    a hash of the settings, medtrans' version and the images, so that a change of any of them makes a new entry: a
    file, and the one a `.mhd` names, counts by its real path, size and time of change, looked at once for a `Case`
    while the cache object lives; a function counts by its class and `repr`. Make such functions frozen dataclasses:
    one whose `repr` holds an address or is abridged has no lasting name, and what it made is not found again by a
    later run.

    An entry appears whole or not at all; of two processes that make the same one, the later discards its own. An
    entry whose sizes or hashes do not fit is made again. The hashes are compared once in a process and those it
    starts afterwards, the sizes whenever an entry is opened.

    Args:
        folder: where entries live; made if need be.
        preprocessing: makes them.
        key: all settings `preprocessing` was made with, as plain data.
        rules: how images are read that would otherwise be refused; part of the key.
    """

    def __init__(
        self,
        folder: Path,
        preprocessing: Preprocessing,
        key: Mapping[str, Any],
        rules: ReadingRules = NO_RULES,
    ) -> None:
        self._folder = folder
        self._preprocessing = preprocessing
        self._rules = rules
        settings = {"format": _FORMAT, "version": __version__, "settings": key, "reading": asdict(rules)}
        self._key = json.dumps(settings, sort_keys=True)
        self._session = uuid4().hex
        self._names: dict[int, tuple[Case, str]] = {}
        self._sound: set[str] = set()
        self._open: OrderedDict[str, CachedCase] = OrderedDict()

    @property
    def scans(self) -> frozenset[str]:
        """Arrays that no two cases share: the source, and a target that is no label map."""
        labels = all(self._preprocessing.scalings[name].nearest for name in self._preprocessing.target)
        return frozenset({"source"} if labels else {"source", "target"})

    def __getstate__(self) -> dict[str, Any]:
        # mapped arrays would travel as copies
        return {**self.__dict__, "_open": OrderedDict()}

    def prepared(self, member: Member) -> Prepared:
        """The case as networks see it, its arrays mapped read-only from disk; prepared now if it is not there yet.

        Raises:
            DataError: an image cannot be had or prepared; names the case.
            SetupError: the folder cannot be written.
        """
        return self._entry(member).prepared

    def foreground(self, member: Member) -> np.ndarray:
        """Where a patch of the case may be centred, `(i, j, k)` booleans; raises as `prepared`."""
        return self._entry(member).foreground

    def digests(self, member: Member) -> Mapping[str, str]:
        """A hash of each array of the case ("source", "target", "mask", "foreground"); raises as `prepared`."""
        return self._entry(member).digests

    def voxels(self, member: Member) -> Mapping[str, str]:
        """A hash of each image's voxels as stored, by modality; none of a constant one; raises as `prepared`."""
        return self._entry(member).voxels

    def notes(self, member: Member) -> Mapping[str, tuple[str, ...]]:
        """By modality, the reading rules that a header did not show to be needed; raises as `prepared`."""
        return self._entry(member).notes

    def release(self, member: Member) -> None:
        """Give back this process's memory of a case's pages; its arrays stay good, and the system may keep the file's.

        Without it the pages of all open cases count as memory of the process, which grows with every patch.
        """
        entry = self._open.get(self._name(member))
        if entry is not None:
            entry.release()

    def _entry(self, member: Member) -> CachedCase:
        name = self._name(member)
        if name in self._open:
            self._open.move_to_end(name)
            return self._open[name]
        entry = self._opened(name)
        for _ in range(_ATTEMPTS):
            if entry is not None:
                break
            self._make(member, name)
            entry = self._opened(name)
        if entry is None:
            raise SetupError(
                f"{self._folder}: what is written here reads back differently ({member.label}); check the disk"
            )
        self._open[name] = entry
        if len(self._open) > _OPEN:
            self._open.popitem(last=False)
        return entry

    def _modalities(self, member: Member) -> list[str]:
        optional = [name for name in (*self._preprocessing.target, "mask") if name in member.case.images]
        return list(dict.fromkeys([*self._preprocessing.source, *optional]))

    def _name(self, member: Member) -> str:
        known = self._names.get(member.number)
        if known is not None and known[0] is member.case:
            return known[1]
        images = {modality: self._identity(member, modality) for modality in self._modalities(member)}
        name = blake2b(json.dumps([self._key, images], sort_keys=True).encode(), digest_size=16).hexdigest()
        self._names[member.number] = (member.case, name)
        return name

    def _identity(self, member: Member, modality: str) -> list[Any]:
        image = member.case.images.get(modality)
        if image is None:
            return ["missing", member.case.case]
        if callable(image):
            text = repr(image)
            lasting = " at 0x" not in text and "..." not in text
            # A class that has moved keeps the name that the caches of before know it by.
            kind = getattr(type(image), "cached_as", f"{type(image).__module__}.{type(image).__qualname__}")
            return ["function", kind, text] if lasting else ["function", self._session, member.case.case, modality]
        try:
            files = [path.resolve(strict=True) for path in files_of(image, self._rules)]
            return ["file", *([str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in files)]
        except (OSError, DataError) as error:
            where = f'{member.label}: case "{member.case.case}", {modality}'
            raise DataError(f"{where}: cannot be read ({error}); restore the file") from error

    def _opened(self, name: str) -> CachedCase | None:
        """The entry if it is there and sound."""
        folder = self._folder / name
        if not folder.exists():
            return None
        try:
            entry = read_case(folder, compare=name not in self._sound)
        except (OSError, ValueError, KeyError, TypeError) as error:
            logging.getLogger("medtrans").warning("cache entry %s is damaged and is made again (%s)", name, error)
            return None
        self._sound.add(name)
        return entry

    def _make(self, member: Member, name: str) -> None:
        images, notes = {}, {}
        try:
            for modality in self._modalities(member):
                images[modality] = load_image(member.case, modality, self._rules)
                notes[modality] = self._beyond_header(member, modality, images[modality])
        except DataError as error:
            raise DataError(*(f"{member.label}: {fault}" for fault in error.faults)) from error
        try:
            prepared = self._preprocessing.prepare(images)
        except DataError as error:
            where = f'{member.label}: case "{member.case.case}"'
            raise DataError(*(f"{where}, {fault}" for fault in error.faults)) from error
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            temporary = Path(tempfile.mkdtemp(prefix=".part-", dir=self._folder))
            try:
                scans = {name: image for name, image in images.items() if not self._shared(name)}
                write_case(temporary, prepared, _voxel_digests(scans), notes)
                self._install(temporary, name)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
        except OSError as error:
            raise SetupError(
                f"{self._folder}: cannot store prepared cases ({error.strerror or error}); free space there, or choose "
                "another output_dir"
            ) from error

    def _shared(self, modality: str) -> bool:
        """Whether two cases may well hold the same voxels of a modality."""
        return modality == "mask" or self._preprocessing.scalings[modality].nearest

    def _beyond_header(self, member: Member, modality: str, volume: Volume) -> tuple[str, ...]:
        image = member.case.images[modality]
        known = () if callable(image) else read_header(image, self._rules).notes
        return tuple(note for note in volume.notes if note not in known)

    def _install(self, temporary: Path, name: str) -> None:
        final = self._folder / name
        try:
            temporary.rename(final)
        except OSError:
            if not final.exists():
                raise
            if self._opened(name) is not None:
                return  # another process was quicker
            aside = self._folder / f".part-{uuid4().hex}"
            final.rename(aside)
            shutil.rmtree(aside, ignore_errors=True)
            temporary.rename(final)
        synchronise(self._folder)


def check_duplicates(cache: Cache, members: Sequence[Member]) -> None:
    """Refuse scans that stand in two splits under different names: their voxels are identical, prepared or as stored.

    It prepares every member; copies, renamed, recompressed and reoriented files are found alike.

    Raises:
        DataError: naming all pairs.
    """
    digests = []
    for member in members:
        images = {name: digest for name, digest in cache.digests(member).items() if name in cache.scans}
        digests.append({**images, **cache.voxels(member)})
    faults = capped([str(pair) for pair in twins(members, digests)])
    if faults:
        raise DataError(*faults)


def _voxel_digests(images: Mapping[str, Volume]) -> dict[str, str]:
    found = {name: voxel_digest(image) for name, image in images.items()}
    return {name: digest for name, digest in found.items() if digest is not None}
