"""The kit finds each rule that a dataset breaks, and nothing else."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from medtrans import Case, Dataset, Volume
from medtrans.testing.dataset import DATASET_RULES
from medtrans.testing.trial import SHARED_RULES
from medtrans.volume import write
from tests.testing.broken import Breaks, altered, broken_rules, contract

NAMES = ("delta", "alpha", "charlie", "bravo", "echo", "golf", "foxtrot", "hotel")


def volume(seed: int = 0, shift: float = 0.0) -> Volume:
    affine = np.eye(4)
    affine[0, 3] = shift
    return Volume(np.random.default_rng(seed).random((8, 8, 8), np.float32), affine)


class Sound(Dataset):
    """Cases that are drawn when they are asked for."""

    def cases(self) -> Sequence[Case]:
        return [Case(name, name, self.images(number)) for number, name in enumerate(sorted(NAMES))]

    def images(self, number: int) -> dict[str, object]:
        return {"t1": lambda: volume(number), "t2": lambda: volume(number + 100)}


class Unordered(Sound):  # lists a set
    def cases(self) -> Sequence[Case]:
        return [Case(name, name, self.images(0)) for name in {*NAMES}]


class Eager(Sound):  # draws everything at once
    def images(self, number: int) -> dict[str, object]:
        made = Volume(np.random.default_rng(number).random((48, 48, 48)), np.eye(4))
        return {"t1": lambda: made}


class Reading(Dataset):
    """Opens each file to list it.

    Args:
        root: folder of the files.
    """

    def __init__(self, *, root: Path) -> None:
        self.root = root

    def cases(self) -> Sequence[Case]:
        paths = sorted(self.root.glob("*.nii"))
        for path in paths:
            path.read_bytes()
        return [Case(path.stem, path.stem, {"t1": path}) for path in paths]


def listing(*cases: tuple[str, str, str | None]) -> type:
    return altered(Sound, cases=lambda self: [Case(name, who, self.images(0), split) for name, who, split in cases])


BREAKING = [
    Breaks("lists cases", altered(Sound, images=lambda self, number: {"t1": volume(number)}), "neither a", alone=False),
    Breaks("names each case once", listing(("Case", "a", None), ("case", "b", None)), "'Case' and 'case'"),
    Breaks("keeps subjects in one split", listing(("a1", "a", "train"), ("a2", "a", "test")), "splits, train and test"),
    Breaks("keeps its order", Unordered, "another process lists the cases in another order"),
    Breaks("reads nothing to list", Eager, "give functions that make volumes when asked"),
    Breaks(
        "gives volumes that lie together",
        altered(
            Sound, images=lambda self, number: {"t1": lambda: volume(number), "t2": lambda: volume(number, shift=500.0)}
        ),
        "t2 and t1 do not overlap",
    ),
    Breaks(
        "gives the same volumes again",
        altered(
            Sound,
            images=lambda self, number: {"t1": lambda: Volume(np.random.default_rng().random((8, 8, 8)), np.eye(4))},
        ),
        "differs when it is asked for again",
    ),
    Breaks(
        "leaves global random states alone",
        altered(Sound, images=lambda self, number: {"t1": lambda: (random.random(), volume(number))[1]}),
        "the global state of random",
    ),
]


test_what_is_sound_breaks_no_rule, test_the_broken_rule_is_named_and_no_other, test_every_rule_is_broken = contract(
    "dataset", [Sound], BREAKING, DATASET_RULES, but=SHARED_RULES
)


def test_a_dataset_that_opens_files_to_list_them_is_found(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(volume(), tmp_path / f"{name}.nii")

    found = broken_rules("dataset", Reading, options={"root": tmp_path})

    assert list(found) == ["reads nothing to list"]
    assert "listing the cases opens a.nii and 1 more" in found["reads nothing to list"]
