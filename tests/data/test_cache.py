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

from medtrans.builtin.transforms import Window
from medtrans.data.cache import Cache, check_duplicates
from medtrans.data.cohort import Member
from medtrans.data.preprocessing import Prepared, Preprocessing
from medtrans.errors import DataError, SetupError
from medtrans.plugins.interfaces import Case
from medtrans.volume import Volume, write

TENTH = Window(range=(0.0, 10.0), unit="")


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
    return Counting(["t1"], ["t2"], {"t1": TENTH, "t2": TENTH}, crop="none")


def cache_in(folder: Path, **settings: object) -> tuple[Cache, Counting]:
    counting = preprocessing()
    return Cache(folder, counting, settings), counting


def member(number: int = 1, split: str = "train", **images: object) -> Member:
    images = {"t1": Noise(number), "t2": Noise(100 + number), **images}
    return Member(number, Case(f"sub-{number}", f"sub-{number}", images), split)


def entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def test_it_gives_back_what_was_prepared(tmp_path):
    mask = Volume((noise(5) > 5).astype(np.uint8), Noise(1)().affine)
    one = member(mask=lambda: mask)
    images = {"t1": Noise(1)(), "t2": Noise(101)(), "mask": mask}
    expected = preprocessing().prepare(images)
    for _ in range(2):  # made, then opened
        found = cache_in(tmp_path)[0].prepared(one)
        for name in ("source", "target", "mask"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
        assert (found.source.dtype, found.mask.dtype) == (np.float32, np.uint8)
        for name in ("grid", "native"):
            assert getattr(found, name).shape == getattr(expected, name).shape
            np.testing.assert_array_equal(getattr(found, name).affine, getattr(expected, name).affine)
        assert (found.space_code, found.numbers, found.clipped) == (4, expected.numbers, expected.clipped)
        np.testing.assert_array_equal(cache_in(tmp_path)[0].entry(one).foreground, (noise(1) > 1) & (noise(101) > 1))


def test_a_case_without_target_is_prepared_once_mapped_from_files_and_found_by_a_later_run(tmp_path):
    one = Member(1, Case("a", "a", {"t1": Noise(1)}), "test")
    cache, counting = cache_in(tmp_path)
    for _ in range(2):
        found = cache.prepared(one)
        assert (found.target, found.mask, counting.count) == (None, None, 1)
    assert isinstance(found.source, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        found.source[0, 0, 0, 0] = 1
    later, counting = cache_in(tmp_path)
    later.prepared(one)
    assert counting.count == 0


def test_more_cases_than_stay_open_are_not_made_again(tmp_path):
    cache, counting = cache_in(tmp_path)
    descriptors = Path("/proc/self/fd")
    opened = len(list(descriptors.iterdir()))
    for _ in range(2):
        for number in range(1, 41):
            cache.prepared(member(number))
    assert counting.count == 40
    assert len(list(descriptors.iterdir())) - opened < 80  # 40 cases have 120 arrays


def test_other_settings_and_another_function_make_another_entry(tmp_path):
    cache_in(tmp_path, crop="none")[0].prepared(member(t2=Noise(7)))
    for settings, function in (({"crop": "mask"}, 7), ({"crop": "none"}, 8)):
        cache, counting = cache_in(tmp_path, **settings)
        found = cache.prepared(member(t2=Noise(function)))
        assert counting.count == 1
        np.testing.assert_allclose(found.target[0], noise(function) / 10)


@dataclass(frozen=True, eq=False)
class Held:
    """A function whose repr numpy abridges."""

    data: np.ndarray

    def __call__(self) -> Volume:
        return Volume(self.data, np.eye(4))


@pytest.mark.parametrize(
    "image", [lambda: Noise(1)(), Held(np.arange(8000.0).reshape(20, 20, 20))], ids=["nameless", "abridged"]
)
def test_a_function_without_a_lasting_name_is_never_taken_for_an_earlier_runs(tmp_path, image):
    for _ in range(2):
        cache, counting = cache_in(tmp_path)
        cache.prepared(member(t1=image, t2=image))
        cache.prepared(member(t1=image, t2=image))
        assert counting.count == 1


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
    (tmp_path / "link.nii").symlink_to(path)
    cache, counting = cache_in(tmp_path / "cache")
    cache.prepared(member(t1=tmp_path / "link.nii"))
    assert counting.count == 0


# ---- damage


def flipped(content: bytes) -> bytes:
    return content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]


def other_spacing(content: bytes) -> bytes:
    facts = json.loads(content)
    facts["facts"]["grid"]["affine"][0][0] = 2.0
    return json.dumps(facts).encode()


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("source.npy", flipped),
        ("target.npy", lambda content: content[:200]),
        ("foreground.npy", None),
        ("entry.json", other_spacing),
        ("entry.json", lambda _: b"\xff{"),
        ("entry.json", lambda _: b"[1]"),
        ("entry.json", None),
    ],
)
def test_a_damaged_entry_is_made_again(tmp_path, file, damage, caplog):
    expected = np.array(cache_in(tmp_path)[0].prepared(member()).source)
    path = entries(tmp_path)[0] / file
    content = path.read_bytes()
    path.unlink()
    if damage:
        path.write_bytes(damage(content))
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


@pytest.mark.parametrize("fate", ["deleted", "replaced by a shorter file"])
def test_an_entry_lost_while_the_run_goes_on_is_made_again(tmp_path, fate):
    cache, _ = cache_in(tmp_path)
    expected = np.array(cache.prepared(member(1)).source)
    (entry,) = entries(tmp_path)
    for number in range(2, 20):  # until the first is no longer open
        cache.prepared(member(number))
    if fate == "deleted":
        shutil.rmtree(tmp_path)
    else:  # its hashes were compared already
        np.save(entry / "source.npy", np.zeros((1, 2, 2, 2), np.float32))
    np.testing.assert_array_equal(cache.prepared(member(1)).source, expected)


# ---- faults


def unreadable() -> Volume:
    raise DataError("too dark")


def test_faults_name_the_case_by_number_and_name(tmp_path):
    empty = Volume(np.zeros((6, 7, 8), np.uint8), np.eye(4))
    without_source = Member(7, Case("sub-7", "sub-7", {"t2": Noise(1)}), "train")
    for one, image in (
        (member(7, t1=unreadable), "t1"), (without_source, "t1"), (member(7, mask=lambda: empty), "mask"),
        (member(7, t1=tmp_path / "gone.nii.gz"), "t1"),
    ):  # fmt: skip
        with pytest.raises(DataError, match=f'^case_0007: case "sub-7", {image}: '):
            cache_in(tmp_path)[0].prepared(one)
    assert [path for path in entries(tmp_path) if path.name.startswith(".part")] == []


def test_a_folder_that_cannot_be_written_is_named_and_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(SetupError, match="cannot store prepared cases"):
        cache_in(tmp_path / "file" / "cache")[0].prepared(member())
    tmp_path = tmp_path / "cache"

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SetupError, match="No space left on device"):
        cache_in(tmp_path)[0].prepared(member())
    assert entries(tmp_path) == []


# ---- other processes


fork = multiprocessing.get_context("fork")


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_processes_that_make_the_same_entries_at_once_agree(tmp_path):
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

    counting.prepare = overtaken
    slow.prepared(member())
    (entry,) = entries(tmp_path)
    inode = Path(str(quick.prepared(member()).source.filename)).stat().st_ino
    assert (entry / "source.npy").stat().st_ino == inode


def test_a_crash_while_writing_leaves_no_entry(tmp_path):
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


def test_it_travels_to_a_worker_without_its_arrays_and_hashes_are_compared_once_for_all_workers(tmp_path):
    cache, _ = cache_in(tmp_path)
    empty = len(pickle.dumps(cache))
    size = cache.prepared(member()).source.nbytes
    sent = pickle.dumps(cache)
    assert len(sent) - empty < size
    source = entries(tmp_path)[0] / "source.npy"
    source.write_bytes(flipped(source.read_bytes()))
    copy = pickle.loads(sent)
    np.testing.assert_allclose(copy.prepared(member()).target[0], noise(101) / 10)
    assert copy._preprocessing.count == 1  # as it came, not made again


# ---- foreground and twins


def test_the_same_scan_under_two_names_in_two_splits_is_refused(tmp_path):
    cache, _ = cache_in(tmp_path)
    write(Noise(1)(), tmp_path / "copy.nii")  # another name, another compression
    good = [member(1), member(2), member(3, "test")]
    check_duplicates(cache, good)
    check_duplicates(cache, [*good, member(4, t1=Noise(1))])  # twins in one split leak nothing
    with pytest.raises(DataError) as caught:
        check_duplicates(
            cache, [*good, member(4, "validation", t1=tmp_path / "copy.nii"), member(5, "test", t2=Noise(102))]
        )
    named = [('"sub-1" in train', '"sub-4" in validation', "source"), ('"sub-2" in train', '"sub-5" in test', "target")]
    for fault, wanted in zip(caught.value.faults, named, strict=True):
        assert all(one in fault for one in wanted)
