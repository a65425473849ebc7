"""Training patches: sample k cut, augmented and batched, the same in any process and after any restart.

Nothing here keeps count. The loader asks for numbers k, and everything random in sample k comes from the seed and k, so
that workers, ranks and restarts only decide who makes a sample and when, never what is in it.
"""

from __future__ import annotations

import copy
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal, NotRequired, TypedDict, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from medtrans.data.cache import Cache
from medtrans.data.sampling import PatchSampler, cut, stream
from medtrans.data.splits import folded
from medtrans.errors import DataError, MedtransError, SetupError
from medtrans.plugins.discovery import LoadedFiles
from medtrans.types import Batch
from medtrans.utils.seeds import derived_seed
from medtrans.volume.resampling import covered, cropped

if TYPE_CHECKING:
    from medtrans.data.cohort import Member
    from medtrans.plugins.interfaces import Augmentation

__all__ = [
    "Patch",
    "Patches",
    "check_shared_memory",
    "collate",
    "leave_signals_to_the_run",
    "training_loader",
    "worker_faults",
]


_SHARED = Path("/dev/shm")  # noqa: S108 -- where Linux keeps shared memory; nothing is written here
_AHEAD = 2  # batches that torch lets each worker prepare ahead


def leave_signals_to_the_run(_: int) -> None:
    """A worker goes on while the run saves, though Ctrl-C and Slurm signal all processes at once.

    The first SIGTERM is for the run; a second, such as torch sends to a worker that does not end, ends the worker.
    """
    for number in (signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _once)


def _once(number: int, _: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)
    if os.getppid() == 1:  # the run is gone, so that nobody will send a second one
        os.kill(os.getpid(), number)


@contextmanager
def worker_faults() -> Iterator[None]:
    """Turn the death of a worker, which torch may raise anywhere in the main thread, into a fault with advice.

    Raises:
        SetupError: a worker died.
    """
    try:
        yield
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker (pid"):
            raise
        said = str(error).splitlines()[0]
        if "killed by signal" not in said:
            raise SetupError(
                f"a process that prepares patches ended by an error of its own ({said.split('. ')[0]}), which stands "
                "above; train.workers=0 prepares patches without such processes"
            ) from error
        raise SetupError(
            f"a process that prepares patches died ({said}); most often memory, or shared memory (/dev/shm), ran out: "
            "set train.workers lower, at 0 it needs neither. Then go on with --resume"
        ) from error


@contextmanager
def _handed_over(workers: int) -> Iterator[None]:
    """Say what a worker that is started anew, and not forked, cannot be given.

    Raises:
        SetupError: something on the way to patches cannot be handed to another process.
    """
    try:
        yield
    except Exception as error:
        method = multiprocessing.get_start_method()
        if not workers or method == "fork" or isinstance(error, MedtransError | OSError | MemoryError):
            raise
        raise SetupError(
            f"train.workers: what makes patches cannot be handed to other processes, which this system starts by "
            f"{method} ({type(error).__name__}: {str(error).splitlines()[0][:200]}). Define classes and functions of a "
            "plugin at the top level of its file, not inside a function and not by lambda, or set train.workers=0"
        ) from error


def check_shared_memory(*, batch_bytes: int, workers: int, folder: Path = _SHARED) -> None:
    """Ask before training for the shared memory in which workers hand batches over; torch dies by a bus error without.

    Both of torch's ways of sharing use this memory, so that none helps where it is too small.

    Args:
        batch_bytes: of one batch.
        workers: that prepare batches.
        folder: where shared memory is.

    Raises:
        SetupError: it is too small, with the numbers.
    """
    if not folder.is_dir():
        return
    # What each worker has ready or in its hands, and what the run has in its own.
    needed, free = batch_bytes * (workers * (_AHEAD + 1) + 1), shutil.disk_usage(folder).free
    if free < needed:
        raise SetupError(
            f"{folder}: {workers} workers need up to {needed:,} bytes of shared memory, {free:,} are free; set "
            f"train.workers={max((free // max(batch_bytes, 1) - 1) // (_AHEAD + 1), 0)}, or give the container more "
            "(docker run --shm-size)"
        )


class Patch(TypedDict):
    """One sample: tensors `(c, i, j, k)` float32 and the number of the case the source was cut from."""

    source: Tensor
    target: Tensor
    mask: NotRequired[Tensor]
    target_mask: NotRequired[Tensor]
    valid: NotRequired[Tensor]
    target_valid: NotRequired[Tensor]
    case: int


class Patches(Dataset[Patch]):
    """Sample k for every k from 0 on: a pure function of the seed, k and the members.

    Where some members have a mask, every patch has one; a member without counts as a whole. Beyond a volume's border
    images go on with their background and the mask is 0. A patch that reaches there, or to where an image of its case
    has no data, says so in `valid` (unpaired, that of the target in `target_valid`); others have none. Augmentations
    run in order on one random stream of k; one with `intensity` is given the source alone. Unpaired, the target comes
    from a case of another subject, from a place of its own, with a mask of its own that moves as it does.

    Args:
        cache: prepares and keeps the volumes.
        members: the cases to cut from.
        sampler: for as many volumes as there are members.
        augmentations: random changes of the patch.
        pairing: whether source and target come from one case.

    Raises:
        DataError: there is no case; or, unpaired, only one subject.
    """

    def __init__(
        self,
        cache: Cache,
        members: Sequence[Member],
        sampler: PatchSampler,
        *,
        augmentations: Sequence[Augmentation] = (),
        pairing: Literal["paired", "unpaired"] = "paired",
    ) -> None:
        self._subjects = [folded(member.case.subject) for member in members]
        if not members:
            raise DataError("training: no case to cut patches from; give the training split at least one subject")
        if pairing == "unpaired" and len(set(self._subjects)) < 2:
            raise DataError(
                "training: unpaired patches need at least 2 training subjects, found 1; enlarge the training split"
            )
        self._cache = cache
        self._members = tuple(members)
        self._sampler = sampler
        self._augmentations = tuple(augmentations)
        self._pairing = pairing
        self._masked = any("mask" in member.case.images for member in members)

    def __getitem__(self, k: int) -> Patch:
        """Sample k.

        Raises:
            DataError: the case cannot be prepared; names it.
        """
        sampler = self._sampler
        volume = sampler.volume(k)
        member = self._members[volume]
        corner = sampler.corner(k, self._cache.entry(member).foreground)
        arrays = self._image("source", member, corner) | self._mask("mask", member, corner)
        other, valid = member, "valid"
        if self._pairing == "unpaired":
            arrays |= self._valid("valid", member, corner)
            others = [place for place, subject in enumerate(self._subjects) if subject != self._subjects[volume]]
            other = self._members[others[sampler.partner(k, len(others))]]
            corner = sampler.corner(k, self._cache.entry(other).foreground, purpose="partner corner")
            arrays |= self._mask("target_mask", other, corner)
            valid = "target_valid"
        arrays |= self._image("target", other, corner) | self._valid(valid, other, corner)
        self._cache.release(member)
        if other is not member:
            self._cache.release(other)
        tensors = self._augmented({name: torch.from_numpy(array).float() for name, array in arrays.items()}, k)
        return cast("Patch", {**tensors, "case": member.number})

    def _mask(self, name: str, member: Member, corner: Sequence[int]) -> dict[str, np.ndarray]:
        if not self._masked:
            return {}
        prepared = self._cache.prepared(member)
        whole = np.broadcast_to(np.uint8(1), (1, *prepared.grid.shape))
        return {name: cut(whole if prepared.mask is None else prepared.mask, corner, self._sampler.size)}

    def _valid(self, name: str, member: Member, corner: Sequence[int]) -> dict[str, np.ndarray]:
        """Where the patch lies inside its volume and all images of the case have data; nothing where that is all."""
        prepared = self._cache.prepared(member)
        i, j, k = (slice(start, start + side) for start, side in zip(corner, self._sampler.size, strict=True))
        found = covered([prepared.grid, *prepared.partial.values()], cropped(prepared.grid, (i, j, k)))
        return {} if found is None else {name: found[None]}

    def _image(self, name: Literal["source", "target"], member: Member, corner: Sequence[int]) -> dict[str, np.ndarray]:
        entry = self._cache.entry(member)
        image = entry.prepared.source if name == "source" else entry.prepared.target
        if image is None:
            raise DataError(f'{member.label}: case "{member.case.case}" has no target; training needs one')
        size = self._sampler.size
        padded = any(side < extent for side, extent in zip(image.shape[1:], size, strict=True))
        return {name: cut(image, corner, size, entry.backgrounds[name] if padded else None)}

    def _augmented(self, tensors: dict[str, Tensor], k: int) -> dict[str, Tensor]:
        random = stream(self._sampler.seed, "augment", k)
        for augmentation in self._augmentations:
            if augmentation.intensity:
                tensors = {**tensors, "source": augmentation({"source": tensors["source"]}, random)["source"]}
                continue
            # An augmentation knows one mask: it is asked again with each of the others, on the same random numbers.
            images = {name: tensors[name] for name in ("source", "target")}
            moved: dict[str, Tensor] = {
                name: augmentation(images | {"mask": tensors[name]}, copy.deepcopy(random))["mask"]
                for name in tensors.keys() & {"target_mask", "valid", "target_valid"}
            }
            known: dict[str, Tensor] = {name: tensors[name] for name in ("source", "target", "mask") if name in tensors}
            tensors = {**augmentation(known, random), **moved}
        return tensors


def collate(patches: Sequence[Patch]) -> Batch:
    """Patches of one step as a batch."""

    def of_all(name: Literal["mask", "target_mask", "valid", "target_valid"]) -> Tensor | None:
        if not any(name in patch for patch in patches):
            return None
        return torch.stack([patch.get(name, torch.ones_like(patch["source"][:1])) for patch in patches])

    return Batch(
        source=torch.stack([patch["source"] for patch in patches]),
        target=torch.stack([patch["target"] for patch in patches]),
        mask=of_all("mask"),
        cases=tuple(patch["case"] for patch in patches),
        target_mask=of_all("target_mask"),
        valid=of_all("valid"),
        target_valid=of_all("target_valid"),
    )


def training_loader(
    cache: Cache,
    members: Sequence[Member],
    *,
    patch_size: tuple[int, int, int],
    per_volume: int,
    foreground: float,
    seed: int,
    batch: int,
    steps: int,
    first_step: int = 0,
    rank: int = 0,
    ranks: int = 1,
    workers: int = 0,
    augmentations: Sequence[Augmentation] = (),
    pairing: Literal["paired", "unpaired"] = "paired",
) -> DataLoader[Patch]:
    """A loader that yields one `medtrans.types.Batch` for each step from `first_step` up to `steps`.

    Step s on rank r takes samples `(s * ranks + r) * batch` and the `batch - 1` that follow, whatever the number of
    workers and the first step; no global random state is read or changed. Ranks are its own affair: Fabric is to leave
    it as it is (`use_distributed_sampler=False`).

    Args:
        cache: prepares and keeps the volumes.
        members: the training cases.
        patch_size: sides in voxels; volumes that are smaller are padded with their background on both sides.
        per_volume: samples in a row from one volume.
        foreground: least share of foreground in the central half of a patch; 0 cuts anywhere.
        seed: of the run.
        batch: patches of a step on this rank.
        steps: the step training ends before.
        first_step: the step it begins with.
        rank: of this process.
        ranks: processes in all.
        workers: processes that prepare patches for this rank; 0 does it in this one.
        augmentations: random changes of patches.
        pairing: whether source and target come from one case.

    Raises:
        DataError: there is no case to cut from. While iterating: a case cannot be prepared.
        SetupError: while iterating, a worker died or the cache cannot be written.
    """
    sampler = PatchSampler(len(members), patch_size, per_volume, foreground, seed)
    patches = Patches(cache, members, sampler, augmentations=augmentations, pairing=pairing)
    return _TrainingLoader(
        _Reporting(patches),
        batch_sampler=_Steps(batch, range(first_step, steps), rank, ranks),
        num_workers=workers,
        collate_fn=_collate_or_report,
        worker_init_fn=leave_signals_to_the_run,
        generator=torch.Generator().manual_seed(derived_seed(seed, "workers")),  # else torch's global one is drawn on
    )


@dataclass(frozen=True)
class _Steps:
    """The samples of each step, a list at a time."""

    batch: int
    steps: range
    rank: int
    ranks: int

    def __iter__(self) -> Iterator[list[int]]:
        for step in self.steps:
            first = (step * self.ranks + self.rank) * self.batch
            yield list(range(first, first + self.batch))

    def __len__(self) -> int:
        return len(self.steps)


class _Reporting(Dataset[Any]):
    """Hands a fault over as a value: raised in a worker, torch would bury its message in a traceback."""

    def __init__(self, patches: Patches) -> None:
        self._patches = patches

    def __getitem__(self, k: int) -> Patch | MedtransError:
        try:
            return self._patches[k]
        except MedtransError as error:
            return error

    def __reduce__(self) -> tuple[Callable[..., _Reporting], tuple[LoadedFiles, Patches]]:
        return _in_worker, (LoadedFiles(), self._patches)


def _in_worker(_: None, patches: Patches) -> _Reporting:
    return _Reporting(patches)


def _collate_or_report(items: list[Any]) -> Batch | MedtransError:
    for item in items:
        if isinstance(item, MedtransError):
            return item
    return collate(items)


class _TrainingLoader(DataLoader[Any]):
    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]  # torch types the iterator it makes itself
        with _handed_over(self.num_workers):
            batches = super().__iter__()
        try:
            while True:
                with worker_faults():
                    item = next(batches, None)
                # A fault comes as a value, in the order of steps: one of step 90 is not raised while step 80 trains.
                if item is None:
                    return
                if isinstance(item, MedtransError):
                    raise item
                yield item
        finally:
            if self.num_workers:
                # An error's traceback keeps the iterator, and with it workers that a program waits for when it ends.
                batches._shutdown_workers()  # type: ignore[attr-defined]  # noqa: SLF001 -- torch has no public way
