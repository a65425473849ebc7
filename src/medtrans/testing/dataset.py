"""The contract of datasets, rule by rule."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from medtrans.data.splits import folded
from medtrans.plugins.interfaces import Case
from medtrans.testing.rules import Broken, Rule, Verdict, leaving_states
from medtrans.testing.trial import SHARED_RULES, ComponentLike, Trial, check
from medtrans.testing.two_ranks import on_two_ranks
from medtrans.volume import Volume, read

__all__ = ["DATASET_RULES", "DatasetTrial", "check_dataset"]

_SPLITS = (None, "train", "validation", "test")
_LOOKED_AT = 2  # cases whose images are read
_HELD = 512 * 1024  # bytes that a list of a few cases may hold; the smallest volumes of use have more


@dataclass(frozen=True)
class DatasetTrial(Trial):
    """A dataset under trial."""

    kind: ClassVar[str] = "dataset"

    def cases(self) -> Sequence[Case]:
        """What a dataset made anew lists."""
        cases: Sequence[Case] = self.make().cases()
        return cases


def lists_cases(trial: DatasetTrial) -> None:
    """A sequence of cases, each with images."""
    cases = trial.cases()
    if not isinstance(cases, Sequence):
        raise Broken(f"cases() gives {type(cases).__name__}, expected a list or a tuple")
    if not cases:
        raise Broken(
            "it lists no case; try it on data that has some, or raise medtrans.DataError that says what is missing"
        )
    for number, case in enumerate(cases):
        if not isinstance(case, Case):
            raise Broken(f"cases()[{number}] is {type(case).__name__}, expected medtrans.Case")
        if not case.images:
            raise Broken(f"case {case.case!r} has no image")
        strangers = [name for name, image in case.images.items() if not (isinstance(image, Path) or callable(image))]
        if strangers:
            raise Broken(
                f"case {case.case!r}: {strangers[0]} is neither a pathlib.Path nor a function that makes a Volume"
            )


def names_each_case_once(trial: DatasetTrial) -> None:
    """Names tell cases apart, in any spelling, and say whose they are."""
    cases = trial.cases()
    seen: dict[str, str] = {}
    for case in cases:
        if not (
            isinstance(case.case, str) and case.case.strip() and isinstance(case.subject, str) and case.subject.strip()
        ):
            raise Broken(f"case {case.case!r} of subject {case.subject!r}: expected a name and a subject, both as text")
        earlier = seen.setdefault(folded(case.case), case.case)
        if earlier is not case.case:
            raise Broken(
                f"two cases are called {earlier!r} and {case.case!r}; names must differ by more than their case"
            )


def keeps_subjects_in_one_split(trial: DatasetTrial) -> None:
    """Where the dataset prescribes splits, nobody is trained on and tested on."""
    splits: dict[str, str | None] = {}
    for case in trial.cases():
        if case.split not in _SPLITS:
            raise Broken(f"case {case.case!r}: split is {case.split!r}, expected train, validation, test or None")
        if splits.setdefault(case.subject, case.split) != case.split:
            raise Broken(f"subject {case.subject!r} stands in two splits, {splits[case.subject]} and {case.split}")


def keeps_its_order(trial: DatasetTrial) -> None:
    """The same list from the same object, from another one, and from other processes."""
    dataset = trial.make()
    names = [case.case for case in dataset.cases()]
    if [case.case for case in dataset.cases()] != names or [case.case for case in trial.cases()] != names:
        raise Broken("listing the cases twice gives two orders; sort them")
    if any(other != names for other in on_two_ranks(trial, _names)):
        raise Broken("another process lists the cases in another order; sort them, and mind sets")


def _names(trial: DatasetTrial, rank: int) -> list[str]:
    return [case.case for case in trial.cases()]


def reads_nothing_to_list(trial: DatasetTrial) -> None:
    """A cohort of thousands is listed in a moment, and nothing of it is held."""
    files = {path.resolve() for case in trial.cases() for path in case.images.values() if isinstance(path, Path)}
    with _opened_files() as opened:
        tracemalloc.start()
        try:
            cases = trial.cases()
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    if touched := sorted(files & {path.resolve() for path in opened}):
        raise Broken(f"listing the cases opens {touched[0].name} and {len(touched) - 1} more; look at names only")
    if held > _HELD + 10_000 * len(cases):
        raise Broken(
            f"the list of {len(cases)} cases holds {held:,} bytes; give functions that make volumes when asked"
        )


def gives_volumes_that_lie_together(trial: DatasetTrial) -> None:
    """Each image is a sound volume, and those of a case show the same place."""
    for case in trial.cases()[:_LOOKED_AT]:
        boxes = {}
        for name, image in case.images.items():
            volume = read(image) if isinstance(image, Path) else image()
            where = f"case {case.case!r}: {name}"
            if not isinstance(volume, Volume):
                raise Broken(f"{where} is {type(volume).__name__}, expected medtrans.Volume")
            if not np.isfinite(volume.data).all():
                raise Broken(f"{where} holds voxels that are not finite")
            if name == "mask" and not (volume.data != 0).any():
                raise Broken(f"{where} is empty")
            corners = volume.grid.corners_mm()
            boxes[name] = (corners.min(axis=0), corners.max(axis=0))
        first = next(iter(boxes))
        for name, (low, high) in boxes.items():
            if (np.minimum(high, boxes[first][1]) < np.maximum(low, boxes[first][0])).any():
                raise Broken(f"case {case.case!r}: {name} and {first} do not overlap in the world; mind their affines")


def gives_the_same_volumes_again(trial: DatasetTrial) -> None:
    """An image asked for twice, of two datasets, is one image."""
    for one, other in zip(trial.cases()[:1], trial.cases()[:1], strict=True):
        for name, image in one.images.items():
            again = other.images[name]
            if isinstance(image, Path) or isinstance(again, Path):
                continue
            first, second = image(), again()
            if not (np.array_equal(first.data, second.data) and np.array_equal(first.affine, second.affine)):
                raise Broken(f"case {one.case!r}: {name} differs when it is asked for again; key all draws by the case")


def leaves_random_states_alone(trial: DatasetTrial) -> None:
    """Not even drawing a phantom touches what others draw from."""
    with leaving_states(advice="use numpy.random.default_rng of its own"):
        for case in trial.cases()[:1]:
            for image in case.images.values():
                if not isinstance(image, Path):
                    image()


DATASET_RULES: tuple[Rule[DatasetTrial], ...] = (
    *SHARED_RULES,
    Rule("lists cases", lists_cases),
    Rule("names each case once", names_each_case_once),
    Rule("keeps subjects in one split", keeps_subjects_in_one_split),
    Rule("keeps its order", keeps_its_order),
    Rule("reads nothing to list", reads_nothing_to_list),
    Rule("gives volumes that lie together", gives_volumes_that_lie_together),
    Rule("gives the same volumes again", gives_the_same_volumes_again),
    Rule("leaves global random states alone", leaves_random_states_alone),
)


def check_dataset(
    component: ComponentLike,
    *,
    options: Mapping[str, Any] | None = None,
    excused: Mapping[str, str] | None = None,
) -> tuple[Verdict, ...]:
    """Try a dataset against its contract, with a verdict on each rule; its own `trial` gives settings left out.

    Lists the cases several times and reads the images of the first two.

    Args:
        component: a `Component`, the class itself, or a name as a config writes it.
        options: as a config gives them, such as the root of a small tree of files.
        excused: rules that need not hold, each with the reason.

    Raises:
        ConformanceError: lists every rule that is broken, with what to do.
        ConfigError: there is no such component, setting or rule.
    """
    return check(DatasetTrial, DATASET_RULES, component, {"options": options, "excused": excused})


_heard: list[set[Path]] = []


@cache  # an audit hook can never be taken out again, so there is one at most
def _hook() -> None:
    def hear(event: str, arguments: tuple[Any, ...]) -> None:
        if _heard and event == "open" and isinstance(arguments[0], str | Path):
            _heard[-1].add(Path(arguments[0]).absolute())

    sys.addaudithook(hear)


@contextmanager
def _opened_files() -> Iterator[set[Path]]:
    """The files that Python opens meanwhile; absolute, with links unresolved."""
    _hook()
    _heard.append(set())
    try:
        yield _heard[-1]
    finally:
        _heard.pop()
