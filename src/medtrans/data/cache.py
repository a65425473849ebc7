"""The disk cache of prepared cases: each is made once, checked when opened, and mapped rather than read.

A kill at any moment leaves no half entry, by the order of writing: arrays into a folder with a temporary name, each
on the disk before its hash is taken down; `entry.json` with all hashes after them; then one rename of the whole folder,
which a file system does entirely or not at all. What a kill leaves is a folder `.part-...` that nobody looks at.
"""

from __future__ import annotations

import hashlib
import json
import logging
import mmap
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
from medtrans.data.cohort import find_duplicates, load_image, voxel_digest
from medtrans.data.preprocessing import Prepared
from medtrans.data.sampling import background_of, patch_centres
from medtrans.errors import DataError, SetupError
from medtrans.utils.files import synchronise
from medtrans.utils.messages import capped
from medtrans.volume import NO_RULES, Grid, ReadingRules, files_of, read_header

if TYPE_CHECKING:
    from medtrans.data.cohort import Member
    from medtrans.data.preprocessing import Preprocessing
    from medtrans.plugins.interfaces import Case

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
        backgrounds: what "source" and "target" go on with beyond the volume's border, a number each channel.
    """

    prepared: Prepared
    foreground: np.ndarray
    digests: Mapping[str, str]
    voxels: Mapping[str, str]
    notes: Mapping[str, tuple[str, ...]]
    backgrounds: Mapping[str, Sequence[float]]

    def release(self) -> None:
        """Give back the memory of all pages that were looked at; the next look maps them again."""
        arrays = (self.prepared.source, self.prepared.target, self.prepared.mask, self.foreground)
        for pages in (array.base for array in arrays if array is not None):
            if isinstance(pages, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
                pages.madvise(mmap.MADV_DONTNEED)


def write_case(
    folder: Path, prepared: Prepared, voxels: Mapping[str, str], notes: Mapping[str, tuple[str, ...]]
) -> None:
    """Write a case into an empty folder, and to the disk; `voxels` and `notes` as in `CachedCase`.

    Raises:
        OSError: it cannot be written.
    """
    arrays: dict[str, Any] = {
        "source": prepared.source,
        "target": prepared.target,
        "mask": prepared.mask,
        "foreground": patch_centres(prepared.source, prepared.target, prepared.valid),
    }
    files = {}
    for name, array in arrays.items():
        if array is not None:
            path = folder / f"{name}.npy"
            np.save(path, np.ascontiguousarray(array), allow_pickle=False)
            synchronise(path)
            files[path.name] = (path.stat().st_size, _digest(path))
    facts = {
        "files": files,
        "grid": _plain(prepared.grid),
        "native": _plain(prepared.native),
        "space_code": int(prepared.space_code),
        "numbers": {name: {key: float(x) for key, x in own.items()} for name, own in prepared.numbers.items()},
        "clipped": {name: float(share) for name, share in prepared.clipped.items()},
        "partial": {name: _plain(grid) for name, grid in prepared.partial.items()},
        "uncovered": prepared.uncovered,
        "backgrounds": {name: background_of(arrays[name]) for name in ("source", "target") if arrays[name] is not None},
        "voxels": voxels,
        "notes": notes,
    }
    # Last, and only once all arrays are on the disk: an entry.json never speaks of bytes that a crash may still take.
    entry = folder / "entry.json"
    entry.write_text(json.dumps({"facts": facts, "blake2b": _digest_text(facts)}), encoding="utf-8")
    synchronise(entry)
    synchronise(folder)


def read_case(folder: Path, *, compare: bool) -> CachedCase:
    """A case as it was written; the files' hashes count where they are to be compared, their sizes always.

    Raises:
        OSError, ValueError, KeyError, TypeError: it is damaged.
    """
    entry = json.loads((folder / "entry.json").read_text(encoding="utf-8"))
    facts: Mapping[str, Any] = entry["facts"]
    if entry["blake2b"] != _digest_text(facts):
        raise ValueError("entry.json has changed")
    arrays, digests = {}, {}
    for file, (size, digest) in facts["files"].items():
        if (folder / file).stat().st_size != size or (compare and _digest(folder / file) != digest):
            raise ValueError(f"{file} has changed")
        name = file.removesuffix(".npy")
        arrays[name] = np.load(folder / file, mmap_mode="r", allow_pickle=False)  # noqa: TID251 -- without pickles
        digests[name] = digest
    prepared = Prepared(
        source=arrays["source"],
        target=arrays.get("target"),
        mask=arrays.get("mask"),
        grid=_grid(facts["grid"]),
        native=_grid(facts["native"]),
        space_code=facts["space_code"],
        numbers=facts["numbers"],
        clipped=facts["clipped"],
        partial={name: _grid(own) for name, own in facts["partial"].items()},
        uncovered=facts["uncovered"],
    )
    notes = {modality: tuple(own) for modality, own in facts["notes"].items()}
    return CachedCase(prepared, arrays["foreground"], digests, facts["voxels"], notes, facts["backgrounds"])


def _plain(grid: Grid) -> dict[str, Any]:
    return {"shape": [int(side) for side in grid.shape], "affine": grid.affine.tolist()}


def _grid(plain: Mapping[str, Any]) -> Grid:
    return Grid(tuple(plain["shape"]), np.array(plain["affine"]))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: blake2b(digest_size=16)).hexdigest()


def _digest_text(facts: Any) -> str:
    return blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=16).hexdigest()


_FORMAT = 4  # of an entry on disk
_OPEN = 16  # entries mapped at a time: each holds up to four files open, and processes may open about a thousand
_ATTEMPTS = 3


class Cache:
    """Prepared cases in a folder, which several processes may use at once and anybody may delete between runs.

    An entry's name is a hash of the settings, medtrans' version and the images, so that a change of any of them makes
    a new entry. A file, and the one a `.mhd` names, counts by its real path, size and time of change, taken once for a
    `Case` while the cache object lives; a function by its class and `repr`. Make such functions frozen dataclasses:
    what one made whose `repr` holds an address or is abridged is not found again by a later run.

    Of two processes that make the same entry, the later discards its own. An entry whose sizes or hashes do not fit is
    made again. The hashes are compared once in a process and those it starts afterwards, the sizes at each opening.

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
        return self.entry(member).prepared

    def entry(self, member: Member) -> CachedCase:
        """The case with its foreground, digests and notes; raises as `prepared`."""
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

    def release(self, member: Member) -> None:
        """Give back this process's memory of a case's pages, which grows with every patch; its arrays stay good."""
        entry = self._open.get(self._name(member))
        if entry is not None:
            entry.release()

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
                scaling = self._preprocessing.scalings.get(modality)
                image = images[modality] = load_image(member.case, modality, self._rules, scaling)
                file = member.case.images[modality]
                known = () if callable(file) else read_header(file, self._rules).notes
                notes[modality] = tuple(note for note in image.notes if note not in known)
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
                voxels = {name: voxel_digest(image) for name, image in images.items()}
                write_case(temporary, prepared, {key: one for key, one in voxels.items() if one is not None}, notes)
                self._install(temporary, name)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
        except OSError as error:
            raise SetupError(
                f"{self._folder}: cannot store prepared cases ({error.strerror or error}); free space there, or choose "
                "another output_dir"
            ) from error

    def may_be_shared(self, modality: str) -> bool:
        """Whether two cases may well hold the same voxels of a modality."""
        return modality == "mask" or self._preprocessing.scalings[modality].nearest

    def _install(self, temporary: Path, name: str) -> None:
        final = self._folder / name
        try:
            temporary.rename(
                final
            )  # fails where the entry is there already: a folder that is not empty is not replaced
        except OSError:
            if not final.exists():
                raise
            if self._opened(name) is not None:
                return  # another process was quicker
            # It is there and damaged. It goes out of the way by a rename too, so that nobody meets it half removed.
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
        entry = cache.entry(member)
        prepared = {name: digest for name, digest in entry.digests.items() if name in cache.scans}
        stored = {name: digest for name, digest in entry.voxels.items() if not cache.may_be_shared(name)}
        digests.append({**prepared, **stored})
    faults = capped([str(pair) for pair in find_duplicates(members, digests)])
    if faults:
        raise DataError(*faults)
