"""Sample k is a pure function of the seed and k: with any workers, ranks and restarts, and fairly drawn."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from medtrans.builtin.transforms import Window
from medtrans.data.cache import Cache
from medtrans.data.cohort import Member
from medtrans.data.patches import training_loader
from medtrans.data.preprocessing import Preprocessing
from medtrans.data.sampling import PatchSampler, cut, patch_centres
from medtrans.errors import DataError
from medtrans.plugins.interfaces import Augmentation, Case
from medtrans.types import Batch
from medtrans.volume import Volume

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
SHAPE = (12, 13, 14)
ASIS = Window(range=(0.0, 1.0), unit="")


@dataclass(frozen=True)
class Noise:
    """Every voxel has a value of its own, so that a patch tells where it comes from."""

    seed: int
    offset: float = 0.0
    shape: tuple[int, int, int] = SHAPE

    def __call__(self) -> Volume:
        values = np.random.default_rng(self.seed).uniform(0.2, 0.5, self.shape) + self.offset
        return Volume(values.astype(np.float32), np.eye(4))


@dataclass(frozen=True)
class Blobs:
    """A random mask of its own for each seed."""

    seed: int

    def __call__(self) -> Volume:
        return Volume((np.random.default_rng(self.seed).random(SHAPE) < 0.5).astype(np.uint8), np.eye(4))


def members(count: int = 5, **more: Any) -> tuple[Member, ...]:
    """Each target is its source plus 0.25, so that a shift between them shows."""
    return tuple(
        Member(n, Case(f"c{n}", f"s{n}", {"t1": Noise(n), "t2": Noise(n, 0.25), **more}), "train")
        for n in range(1, count + 1)
    )


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path, Preprocessing(["t1"], ["t2"], {"t1": ASIS, "t2": ASIS}, crop="none"), {})


def loaded(cache: Cache, cases: Sequence[Member] | None = None, **settings: Any) -> list[Batch]:
    settings = {
        "patch_size": (4, 5, 6), "per_volume": 2, "foreground": 0.1, "seed": 3, "batch": 3, "steps": 6, **settings
    }  # fmt: skip
    return list(training_loader(cache, members() if cases is None else cases, **settings))


def same(one: Sequence[Batch], other: Sequence[Batch]) -> bool:
    def equal(a: Tensor | None, b: Tensor | None) -> bool:
        return (a is None) == (b is None) and (a is None or torch.equal(a, b))

    fields = ("source", "target", "mask", "target_mask")
    return len(one) == len(other) and all(
        a.cases == b.cases and all(equal(getattr(a, name), getattr(b, name)) for name in fields)
        for a, b in zip(one, other, strict=True)
    )


def flipped_axes(plain: Batch, flipped: Batch, patch: int, names: Sequence[str]) -> list[int]:
    """Along which axes all of the images together are flipped."""
    pairs = [(getattr(plain, name)[patch], getattr(flipped, name)[patch]) for name in names]
    return [axis for axis in (1, 2, 3) if all(torch.equal(one.flip(axis), other) for one, other in pairs)]


class Brighter(Augmentation):
    intensity = True

    def __call__(self, patches: Mapping[str, Tensor], rng: np.random.Generator) -> dict[str, Tensor]:
        assert set(patches) == {"source"}
        return {"source": patches["source"] + float(rng.uniform(1, 2))}


class Flip(Augmentation):
    def __call__(self, patches: Mapping[str, Tensor], rng: np.random.Generator) -> dict[str, Tensor]:
        axis = int(rng.integers(1, 4))
        return {name: patch.flip(axis) for name, patch in patches.items()}


# ---- the same whatever the processes


@pytest.mark.parametrize("pairing", ["paired", "unpaired"])
def test_workers_restarts_and_repetition_change_nothing(cache, pairing):
    settings = {"pairing": pairing, "augmentations": [Flip(), Brighter()]}
    cases = members(mask=Blobs(0))
    whole = loaded(cache, cases, **settings)
    assert same(whole, loaded(cache, cases, **settings))
    assert same(whole, loaded(cache, cases, workers=1, **settings))
    assert same(whole[5:], loaded(cache, cases, first_step=5, workers=2, **settings))
    assert loaded(cache, cases, first_step=6, **settings) == []
    assert not same(whole, loaded(cache, cases, seed=4, **settings))


def test_two_ranks_share_what_one_would_do(cache):
    whole = loaded(cache, batch=4)
    halves = [loaded(cache, batch=2, rank=rank, ranks=2) for rank in range(2)]
    for together, first, second in zip(whole, *halves, strict=True):
        assert torch.equal(together.source, torch.cat([first.source, second.source]))
        assert together.cases == first.cases + second.cases


@pytest.mark.parametrize("workers", [0, 2])
def test_global_random_states_are_neither_used_nor_changed(cache, workers):
    def states() -> tuple[Any, ...]:
        kind, keys, *rest = np.random.get_state()  # noqa: NPY002 -- the state that must not change
        return torch.get_rng_state().tolist(), random.getstate(), kind, keys.tolist(), *rest

    before = states()
    first = loaded(cache, workers=workers, augmentations=[Flip()])
    assert states() == before
    torch.manual_seed(99)
    random.seed(99)
    assert same(first, loaded(cache, workers=workers, augmentations=[Flip()]))


# ---- what a sample is


def test_each_volume_comes_per_volume_times_a_turn_in_a_new_order(cache):
    cases = [case for batch in loaded(cache, per_volume=3, batch=3, steps=20) for case in batch.cases]
    turns = [cases[start : start + 15] for start in range(0, 60, 15)]
    for turn in turns:
        assert Counter(turn) == dict.fromkeys(range(1, 6), 3)
        assert all(len(set(turn[start : start + 3])) == 1 for start in range(0, 15, 3))
    assert len({tuple(turn) for turn in turns}) > 1


def test_source_target_and_mask_are_cut_from_one_place(cache):
    cases = members(mask=Blobs(0))
    batches = loaded(cache, cases)
    assert len(batches) == 6
    for batch in batches:
        assert batch.source.shape == batch.target.shape == batch.mask.shape == (3, 1, 4, 5, 6)
        assert batch.source.dtype == batch.target.dtype == batch.mask.dtype == torch.float32
        torch.testing.assert_close(batch.target, batch.source + 0.25)
        for patch, mask, number in zip(batch.source, batch.mask, batch.cases, strict=True):
            whole = cache.prepared(cases[number - 1])
            corner = corner_of(whole.source[0], patch)
            np.testing.assert_array_equal(cut(whole.source, corner, (4, 5, 6)), patch)
            np.testing.assert_array_equal(cut(whole.mask, corner, (4, 5, 6)), mask)


def test_a_geometric_augmentation_moves_all_alike_and_an_intensity_one_the_source_alone(cache):
    cases = members(mask=Blobs(0))
    plain, flipped = loaded(cache, cases), loaded(cache, cases, augmentations=[Flip()])
    for one, other in zip(plain, flipped, strict=True):
        torch.testing.assert_close(other.target, other.source + 0.25)
        assert not torch.equal(one.source, other.source)
        assert all(flipped_axes(one, other, patch, ("source", "mask")) for patch in range(3))
    for one, other in zip(plain, loaded(cache, cases, augmentations=[Brighter()]), strict=True):
        assert torch.equal(one.target, other.target)
        gains = (other.source - one.source).flatten(1)
        torch.testing.assert_close(gains, gains[:, :1].expand_as(gains))
        assert len({round(float(gain), 5) for gain in gains[:, 0]}) == 3  # a draw of its own for every sample


def test_without_masks_there_is_none_and_a_case_without_one_counts_whole(cache):
    for pairing in ("paired", "unpaired"):
        assert all(batch.mask is None and batch.target_mask is None for batch in loaded(cache, pairing=pairing))
    mixed = (*members(2), Member(3, Case("c3", "s3", {"t1": Noise(3), "t2": Noise(3), "mask": Blobs(0)}), "train"))
    for batch in loaded(cache, mixed):
        assert batch.target_mask is None  # a pair has one mask
        for mask, case in zip(batch.mask, batch.cases, strict=True):
            assert bool(mask.all()) == (case != 3)


def corner_of(volume: np.ndarray, patch: Tensor) -> tuple[int, ...] | None:
    """Where in the volume a patch begins, if it is of it."""
    found = np.argwhere(volume == float(patch[0, 0, 0, 0]))
    return tuple(found[0]) if len(found) else None


def test_unpaired_targets_with_their_masks_come_from_other_subjects_and_places(cache):
    images = {n: {"t1": Noise(n), "t2": Noise(n), "mask": Blobs(n)} for n in range(1, 6)}
    subjects = {n: f"s{n}" for n in range(1, 5)} | {5: " S1"}  # a second visit
    cases = [Member(n, Case(f"c{n}", subjects[n], images[n]), "train") for n in images]
    wholes = {member.number: cache.prepared(member) for member in cases}
    seen, places = Counter[tuple[int, int]](), Counter[bool]()
    for batch in loaded(cache, cases, pairing="unpaired", steps=40):
        for source, target, mask, case in zip(batch.source, batch.target, batch.target_mask, batch.cases, strict=True):
            (owner,) = [number for number, one in wholes.items() if corner_of(one.target[0], target)]
            corner = corner_of(wholes[owner].target[0], target)
            seen[case, owner] += 1
            places[corner == corner_of(wholes[case].source[0], source)] += 1
            np.testing.assert_array_equal(cut(wholes[owner].mask, corner, mask.shape[1:]), mask)
    assert {pair for pair in seen if pair[0] == pair[1] or set(pair) == {1, 5}} == set()
    assert {(2, 1), (2, 3), (2, 4), (3, 1), (1, 2), (5, 2)} <= set(seen)
    assert places[True] < 0.05 * places[False]


def test_an_augmentation_moves_an_unpaired_target_with_its_mask_and_chunks_keep_both(cache):
    cases = members(mask=Blobs(0))
    plain, flipped = (loaded(cache, cases, pairing="unpaired", augmentations=some) for some in ([], [Flip()]))
    for one, other in zip(plain, flipped, strict=True):
        names = ("source", "target", "mask", "target_mask")
        assert [len(flipped_axes(one, other, patch, names)) for patch in range(3)] == [1] * 3
    first, second, third = plain[0].to("cpu").chunks(3)
    for name in ("mask", "target_mask"):
        assert torch.equal(torch.cat([getattr(one, name) for one in (first, second, third)]), getattr(plain[0], name))
    assert plain[0].to("meta").target_mask.device.type == "meta"


def test_unpaired_needs_two_subjects_and_training_a_case(cache):
    with pytest.raises(DataError, match="2 training subjects"):
        loaded(cache, members(1), pairing="unpaired")
    with pytest.raises(DataError, match="no case"):
        loaded(cache, [])


@given(
    shape=st.tuples(*[st.integers(1, 12)] * 3),
    size=st.tuples(*[st.integers(1, 12)] * 3),
    k=st.integers(0, 10**9),
    share=st.sampled_from([0.0, 0.1, 1.0]),
    rare=st.booleans(),
)
def test_a_patch_lies_inside_the_volume_or_holds_all_of_it(shape, size, k, share, rare):
    inside = np.zeros(shape, bool)
    inside[tuple(side // 2 for side in shape) if rare else ...] = True
    corner = PatchSampler(1, size, 1, share, 0).corner(k, inside)
    for start, side, extent in zip(corner, size, shape, strict=True):
        if side <= extent:
            assert 0 <= start <= extent - side
        else:
            before, after = -start, start + side - extent
            assert before - after in (0, 1)
    patch = cut(inside[None], corner, size)
    assert patch.shape == (1, *size)
    if share and rare:
        assert patch.any()  # the one voxel a patch may be centred on is seen
    if not rare:  # what lies outside the volume is 0
        assert patch.sum() == np.prod(np.minimum(shape, size))


# ---- fairness


def test_corners_are_uniform_without_foreground():
    sampler = PatchSampler(1, (4, 4, 4), 1, 0.0, 11)
    inside = np.ones((7, 8, 6), bool)
    counts = Counter(sampler.corner(k, inside) for k in range(12_000))
    cells = list(product(range(4), range(5), range(3)))
    assert set(counts) == set(cells)
    assert stats.chisquare([counts[cell] for cell in cells]).pvalue > 0.01


@pytest.mark.parametrize("share", [0.5, 0.002])  # found by trying, and by listing where too few tries meet it
def test_centres_are_uniform_over_the_foreground(share):
    inside = np.random.default_rng(0).uniform(size=(20, 20, 20)) < share
    sampler = PatchSampler(1, (1, 1, 1), 1, 1.0, 5)
    counts = Counter(sampler.corner(k, inside) for k in range(4_000))
    where = [tuple(int(a) for a in voxel) for voxel in np.argwhere(inside)]
    assert set(counts) <= set(where)
    assert stats.chisquare([counts[voxel] for voxel in where]).pvalue > 0.01


def test_the_central_half_sees_as_much_foreground_as_is_asked_for():
    inside = np.zeros((32, 32, 32), bool)
    inside[:10] = True  # a slab; most centres in it see less than all of it
    inside[20, 20, 20] = True  # and a speck
    where = slice(2, 6)
    for share in (0.1, 0.6, 0.9):
        sampler = PatchSampler(1, (8, 8, 8), 1, share, 0)
        for k in range(300):
            assert cut(inside[None], sampler.corner(k, inside), (8, 8, 8))[0, where, where, where].mean() >= share
    rare = np.zeros((32, 32, 32), bool)
    rare[10:12, 10:12, 10:12] = rare[25, 25, 25] = True
    sampler = PatchSampler(1, (8, 8, 8), 1, 1.0, 0)
    for k in range(50):  # where no try sees enough, the best is taken
        assert cut(rare[None], sampler.corner(k, rare), (8, 8, 8))[0, where, where, where].sum() == 8


def test_the_foreground_is_where_everything_is_bright_else_anything_else_all():
    dark, bright = np.zeros((1, 2, 2, 2), np.float32), np.full((1, 2, 2, 2), 0.5, np.float32)
    left, right = dark.copy(), dark.copy()
    left[0, 0] = 0.11
    right[0, 1] = 0.11
    edge = np.full((1, 2, 2, 2), np.float32(0.1))  # not brighter, compared in its own precision
    np.testing.assert_array_equal(patch_centres(left, bright), left[0] > 0.1)
    np.testing.assert_array_equal(patch_centres(left, None), left[0] > 0.1)
    assert patch_centres(left, right).all()  # nowhere both: either
    assert patch_centres(np.concatenate([left, bright]), dark)[0].all()
    assert patch_centres(dark, edge).all()  # nothing at all: everywhere
    np.testing.assert_array_equal(patch_centres(np.concatenate([left, bright]), bright), left[0] > 0.1)


# ---- faults


@dataclass(frozen=True)
class Fails(Augmentation):
    """As an image and as an augmentation."""

    error: Exception

    def __call__(self, *_: Any) -> Any:
        raise self.error


@pytest.mark.parametrize("workers", [0, 1])
def test_a_fault_in_a_worker_reads_as_one_at_home(cache, workers):
    with pytest.raises(DataError) as caught:
        loaded(cache, members(1, t1=Fails(DataError("too dark"))), workers=workers)
    assert str(caught.value) == 'case_0001: case "c1", t1: too dark'
    with pytest.raises(RuntimeError, match="a plugin's own fault"):  # with its traceback
        loaded(cache, workers=workers, augmentations=[Fails(RuntimeError("a plugin's own fault"))])


def test_a_case_without_a_target_is_named(cache):
    with pytest.raises(DataError, match="case_0009"):
        loaded(cache, [Member(9, Case("x", "x", {"t1": Noise(1)}), "train")])


def mapped_kib(folder: Path) -> int:
    """How much of the files of a folder counts as memory of this process."""
    regions = Path("/proc/self/smaps").read_text(encoding="utf-8").split("VmFlags:")
    own = [region for region in regions if str(folder) in region]
    return sum(int(line.split()[1]) for region in own for line in region.splitlines() if line.startswith("Rss:"))


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="the system does not tell")
@pytest.mark.parametrize("pairing", ["paired", "unpaired"])
def test_a_patch_leaves_none_of_its_volume_in_memory(cache, tmp_path, pairing):
    cases = members(mask=Blobs(0))
    looked_at = [cache.prepared(case).source.sum() for case in cases]
    assert mapped_kib(tmp_path) > 0
    first = loaded(cache, cases, pairing=pairing)
    assert mapped_kib(tmp_path) == 0
    assert [cache.prepared(case).source.sum() for case in cases] == looked_at
    assert same(loaded(cache, cases, pairing=pairing), first)
