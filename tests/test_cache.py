"""The cache gives back what was prepared, notices every change, survives damage and other processes."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from medtrans.cache import Cache, refuse_twins
from medtrans.cohort import Member
from medtrans.components import Case, Preprocess
from medtrans.errors import DataError, SetupError
from medtrans.preprocess import Prepared, Preprocessing
from medtrans.volume import Volume, write


class Tenth(Preprocess):
    fitted = True

    def fit(self, volume: np.ndarray, mask: np.ndarray | None) -> dict[str, float]:
        return {"top": float(volume.max())}

    def apply(self, volume: np.ndarray, numbers: Mapping[str, float]) -> np.ndarray:
        return np.clip(volume / 10, 0, 1).astype(np.float32)

    def invert(self, volume: np.ndarray, numbers: Mapping[str, float]) -> np.ndarray:
        return volume * 10


class Counting(Preprocessing):
    """Counts how often a case is prepared."""

    count = 0

    def prepare(self, images: Mapping[str, Volume]) -> Prepared:
        self.count += 1
        return super().prepare(images)


@dataclass(frozen=True)
class Noise:
    seed: int

    def __call__(self) -> Volume:
        return Volume(noise(self.seed), np.diag([1.0, 1.0, 2.0, 1.0]), 4)


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 10, (6, 7, 8)).astype(np.float32)


def preprocessing() -> Counting:
    return Counting(["t1"], ["t2"], {"t1": Tenth(), "t2": Tenth()}, crop="none")


def cache_in(folder: Path, **settings: object) -> tuple[Cache, Counting]:
    counting = preprocessing()
    return Cache(folder, counting, settings), counting


def member(number: int = 1, split: str = "train", **images: object) -> Member:
    images = {"t1": Noise(number), "t2": Noise(100 + number), **images}
    return Member(number, Case(f"sub-{number}", f"sub-{number}", images), split)  # type: ignore[arg-type]  # faults are wanted


def entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def test_it_gives_back_what_was_prepared(tmp_path):
    mask = Volume((noise(5) > 5).astype(np.uint8), Noise(1)().affine)
    one = member(mask=lambda: mask)
    images = {"t1": Noise(1)(), "t2": Noise(101)(), "mask": mask}
    expected = preprocessing().prepare(images)
    for _ in range(2):  # made, then opened
        found = cache_in(tmp_path)[0].prepared(one)
        np.testing.assert_array_equal(found.source, expected.source)
        np.testing.assert_array_equal(found.target, expected.target)
        np.testing.assert_array_equal(found.mask, expected.mask)
        assert found.source.dtype == np.float32
        assert found.mask is not None
        assert found.mask.dtype == np.uint8
        for name in ("grid", "native"):
            assert getattr(found, name).shape == getattr(expected, name).shape
            np.testing.assert_array_equal(getattr(found, name).affine, getattr(expected, name).affine)
        assert found.space_code == 4
        assert found.numbers == expected.numbers
        assert found.clipped == expected.clipped


def test_arrays_are_mapped_and_cannot_be_written(tmp_path):
    found = cache_in(tmp_path)[0].prepared(member())
    assert isinstance(found.source, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        found.source[0, 0, 0, 0] = 1


def test_a_case_without_target_and_mask(tmp_path):
    one = Member(1, Case("a", "a", {"t1": Noise(1)}), "test")
    found = cache_in(tmp_path)[0].prepared(one)
    assert found.target is None
    assert found.mask is None


def test_a_case_is_prepared_once_and_found_by_a_later_run(tmp_path):
    cache, counting = cache_in(tmp_path)
    cache.prepared(member())
    cache.prepared(member())
    assert counting.count == 1
    later, counting = cache_in(tmp_path)
    later.prepared(member())
    assert counting.count == 0


def open_files() -> int:
    descriptors = Path("/proc/self/fd")
    return sum(1 for _ in descriptors.iterdir()) if descriptors.exists() else 0


def test_more_cases_than_stay_open_are_not_made_again(tmp_path):
    cache, counting = cache_in(tmp_path)
    opened = open_files()
    for _ in range(2):
        for number in range(1, 41):
            cache.prepared(member(number))
    assert counting.count == 40
    assert open_files() - opened < 80  # 40 cases have 120 arrays


def test_other_settings_make_another_entry(tmp_path):
    cache_in(tmp_path, crop="none")[0].prepared(member())
    cache, counting = cache_in(tmp_path, crop="mask")
    cache.prepared(member())
    assert counting.count == 1


def test_another_function_makes_another_entry(tmp_path):
    cache_in(tmp_path)[0].prepared(member(t2=Noise(7)))
    cache, counting = cache_in(tmp_path)
    found = cache.prepared(member(t2=Noise(8)))
    assert counting.count == 1
    np.testing.assert_allclose(found.target[0], noise(8) / 10)


def test_a_function_without_a_lasting_name_is_never_taken_for_an_earlier_runs(tmp_path):
    def image() -> Volume:
        return Noise(1)()

    for _ in range(2):
        cache, counting = cache_in(tmp_path)
        cache.prepared(member(t1=image))
        cache.prepared(member(t1=image))
        assert counting.count == 1


@dataclass(frozen=True, eq=False)
class Held:
    """A function whose repr numpy abridges."""

    data: np.ndarray

    def __call__(self) -> Volume:
        return Volume(self.data, np.eye(4))


def test_an_abridged_name_is_no_name(tmp_path):
    first, second = np.ones((20, 20, 20), np.float32), np.ones((20, 20, 20), np.float32)
    first[9, 9, 9], second[10, 10, 10] = 2, 5
    assert repr(Held(first)) == repr(Held(second))
    cache_in(tmp_path)[0].prepared(member(t1=Held(first)))
    assert cache_in(tmp_path)[0].prepared(member(t1=Held(second))).source.max() == 0.5


def test_a_changed_file_makes_another_entry(tmp_path):
    path = tmp_path / "t1.nii"
    write(Noise(1)(), path)
    cache_in(tmp_path / "cache")[0].prepared(member(t1=path))
    size = path.stat().st_size
    write(Volume(noise(2), np.eye(4)), path)
    assert path.stat().st_size == size
    os.utime(path, ns=(0, 12345))
    found = cache_in(tmp_path / "cache")[0].prepared(member(t1=path))
    np.testing.assert_allclose(found.source[0], noise(2) / 10)


def test_a_link_to_a_file_is_the_file(tmp_path):
    write(Noise(1)(), tmp_path / "t1.nii.gz")
    (tmp_path / "link.nii.gz").symlink_to(tmp_path / "t1.nii.gz")
    cache_in(tmp_path / "cache")[0].prepared(member(t1=tmp_path / "t1.nii.gz"))
    cache, counting = cache_in(tmp_path / "cache")
    cache.prepared(member(t1=tmp_path / "link.nii.gz"))
    assert counting.count == 0


# ---- damage


def damage_flip(entry: Path) -> None:
    data = bytearray((entry / "source.npy").read_bytes())
    data[-9] ^= 1
    (entry / "source.npy").write_bytes(data)


def damage_cut(entry: Path) -> None:
    os.truncate(entry / "target.npy", 200)


def damage_gone(entry: Path) -> None:
    (entry / "foreground.npy").unlink()


def damage_facts(entry: Path) -> None:
    path = entry / "entry.json"
    facts = json.loads(path.read_text())
    facts["facts"]["grid"]["affine"][0][0] = 2.0
    path.write_text(json.dumps(facts))


def damage_json(entry: Path) -> None:
    (entry / "entry.json").write_bytes(b"\xff{")


def damage_no_json(entry: Path) -> None:
    (entry / "entry.json").unlink()


def damage_other_json(entry: Path) -> None:
    (entry / "entry.json").write_text("[1]")


@pytest.mark.parametrize(
    "damage",
    [damage_flip, damage_cut, damage_gone, damage_facts, damage_json, damage_no_json, damage_other_json],
)
def test_a_damaged_entry_is_made_again(tmp_path, damage, caplog):
    expected = np.array(cache_in(tmp_path)[0].prepared(member()).source)
    damage(entries(tmp_path)[0])
    cache, counting = cache_in(tmp_path)
    found = cache.prepared(member())
    assert counting.count == 1
    np.testing.assert_array_equal(found.source, expected)
    assert found.grid.affine[0, 0] == 1
    assert "damaged" in caplog.text
    assert len(entries(tmp_path)) == 1
    again, counting = cache_in(tmp_path)
    again.prepared(member())
    assert counting.count == 0


def test_an_entry_deleted_while_the_run_goes_on_is_made_again(tmp_path):
    cache, _ = cache_in(tmp_path)
    expected = np.array(cache.prepared(member(1)).source)
    for number in range(2, 20):  # until the first is no longer open
        cache.prepared(member(number))
    shutil.rmtree(tmp_path)
    np.testing.assert_array_equal(cache.prepared(member(1)).source, expected)


def test_a_file_replaced_by_a_shorter_one_is_noticed_where_hashes_were_compared(tmp_path):
    cache, counting = cache_in(tmp_path)
    cache.prepared(member(1))
    (entry,) = entries(tmp_path)
    for number in range(2, 20):
        cache.prepared(member(number))
    np.save(entry / "source.npy", np.zeros((1, 2, 2, 2), np.float32))
    assert cache.prepared(member(1)).source.shape == (1, 6, 7, 8)
    assert counting.count == 20


# ---- faults


def unreadable() -> Volume:
    raise DataError("too dark")


def test_faults_name_the_case_by_number_and_name(tmp_path):
    with pytest.raises(DataError) as caught:
        cache_in(tmp_path)[0].prepared(member(7, t1=unreadable))
    assert str(caught.value) == 'case_0007: case "sub-7", t1: too dark'
    one = Member(7, Case("sub-7", "sub-7", {"t2": Noise(1)}), "train")
    with pytest.raises(DataError, match=r'^case_0007: case "sub-7", t1: the dataset gives no such image'):
        cache_in(tmp_path)[0].prepared(one)
    empty = Volume(np.zeros((6, 7, 8), np.uint8), np.eye(4))
    with pytest.raises(DataError, match=r'^case_0007: case "sub-7", mask: '):
        cache_in(tmp_path)[0].prepared(member(7, mask=lambda: empty))
    with pytest.raises(DataError, match=r'^case_0007: case "sub-7", t1: cannot be read'):
        cache_in(tmp_path)[0].prepared(member(7, t1=tmp_path / "gone.nii.gz"))
    assert [path for path in entries(tmp_path) if path.name.startswith(".part")] == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SetupError, match="cannot store prepared cases"):
        cache_in(tmp_path / "file" / "cache")[0].prepared(member())


def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SetupError, match="No space left on device"):
        cache_in(tmp_path)[0].prepared(member())
    assert entries(tmp_path) == []


# ---- other processes


@pytest.fixture
def fork() -> multiprocessing.context.ForkContext:
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("needs fork")
    return multiprocessing.get_context("fork")


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_processes_that_make_the_same_entries_at_once_agree(tmp_path, fork):
    barrier = fork.Barrier(3)

    def work() -> None:
        cache, _ = cache_in(tmp_path)
        barrier.wait(30)
        for number in range(1, 9):
            found = cache.prepared(member(number))
            np.testing.assert_allclose(found.source[0], noise(number) / 10)

    processes = [fork.Process(target=work) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert len(entries(tmp_path)) == 8


def test_the_slower_of_two_discards_its_own(tmp_path):
    slow, counting = cache_in(tmp_path)
    quick, _ = cache_in(tmp_path)
    prepare = counting.prepare

    def overtaken(images: Mapping[str, Volume]) -> Prepared:
        quick.prepared(member())
        return prepare(images)

    counting.prepare = overtaken  # type: ignore[method-assign]  # the other process comes in between
    slow.prepared(member())
    (entry,) = entries(tmp_path)
    assert (entry / "source.npy").stat().st_ino == inode_of(quick)


def inode_of(cache: Cache) -> int:
    source = cache.prepared(member()).source
    assert isinstance(source, np.memmap)
    return Path(str(source.filename)).stat().st_ino


def test_a_crash_while_writing_leaves_no_entry(tmp_path, fork):
    def die(*args: object) -> None:
        os._exit(9)

    def work() -> None:
        os.fsync = die  # the first file has been written, the others have not
        cache_in(tmp_path)[0].prepared(member())

    process = fork.Process(target=work)
    process.start()
    process.join(60)
    assert process.exitcode == 9
    cache, counting = cache_in(tmp_path)
    np.testing.assert_allclose(cache.prepared(member()).source[0], noise(1) / 10)
    assert counting.count == 1


def test_it_travels_to_a_worker_without_its_arrays(tmp_path):
    cache, _ = cache_in(tmp_path)
    empty = len(pickle.dumps(cache))
    size = cache.prepared(member()).source.nbytes
    copy = pickle.dumps(cache)
    assert len(copy) - empty < size
    np.testing.assert_allclose(pickle.loads(copy).prepared(member()).source[0], noise(1) / 10)


def test_hashes_are_compared_once_for_all_workers(tmp_path):
    cache, _ = cache_in(tmp_path)
    cache.prepared(member())
    damage_flip(entries(tmp_path)[0])  # sizes stay
    counting = pickle.loads(pickle.dumps(cache))
    counting.prepared(member())
    assert counting._preprocessing.count == 1  # as it came, not made again


# ---- foreground and twins


def test_the_foreground_is_kept_with_the_case(tmp_path):
    cache, _ = cache_in(tmp_path)
    expected = (noise(1) > 1) & (noise(101) > 1)
    np.testing.assert_array_equal(cache.foreground(member()), expected)


def test_the_same_scan_under_two_names_in_two_splits_is_refused(tmp_path):
    cache, _ = cache_in(tmp_path)
    write(Noise(1)(), tmp_path / "copy.nii")  # another name, another compression
    good = [member(1), member(2), member(3, "test")]
    refuse_twins(cache, good)
    refuse_twins(cache, [*good, member(4, t1=Noise(1))])  # twins in one split leak nothing
    with pytest.raises(DataError) as caught:
        refuse_twins(
            cache, [*good, member(4, "validation", t1=tmp_path / "copy.nii"), member(5, "test", t2=Noise(102))]
        )
    assert len(caught.value.faults) == 2
    assert 'case "sub-1" in train and case "sub-4" in validation hold identical source voxels' in caught.value.faults[0]
    assert 'case "sub-2" in train and case "sub-5" in test hold identical target voxels' in caught.value.faults[1]
