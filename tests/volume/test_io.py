"""What is read and what is refused, and what a written file holds."""

from __future__ import annotations

import gzip
import itertools
import os
import resource
import struct
import subprocess
import sys
import tempfile
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from operator import attrgetter
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 -- its usual name
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.linalg import expm

from medtrans._version import __version__
from medtrans.errors import DataError, SetupError
from medtrans.utils import memory
from medtrans.volume import Grid, Volume, nifti_reader, nifti_writer, read, read_header, write
from medtrans.volume import io as volume_io
from tests.helpers import itk_corpus
from tests.helpers.itk_corpus import metaimage, nrrd
from tests.helpers.nifti_corpus import AFFINE, BAD, ODD, VOXELS, Bad, Odd, flip, nifti, squeeze

try:
    from isal import igzip
except ImportError:
    igzip = None

SOUND = Volume(VOXELS, AFFINE)
ENDINGS = ["scan.nii", "scan.nii.gz"]


def placed(case: Bad | Odd, folder: Path) -> Path:
    path = folder / case.name
    if case.content is not None:
        path.write_bytes(case.content)
    for name, content in getattr(case, "beside", ()):
        (folder / name).write_bytes(content)
    return path


# Reading


@pytest.mark.parametrize("case", [*BAD, *itk_corpus.BAD], ids=attrgetter("label"))
def test_a_bad_file_is_refused_with_every_fault_named(case: Bad, tmp_path: Path) -> None:
    """By the header alone where the fault does not lie in the voxels."""
    path = placed(case, tmp_path)
    with pytest.raises(DataError) as refusal:
        read(path)
    faults = refusal.value.faults
    assert len(faults) == len(case.says), faults
    for fault, says in zip(faults, case.says, strict=True):
        assert fault.startswith((str(path), str(path.with_name("scan.raw"))))
        assert says in fault
        assert fault.endswith(".")
        assert len(fault) < 1000
    if case.late:
        assert read_header(path).grid.shape == VOXELS.shape
    else:
        with pytest.raises(DataError) as refusal_of_header:
            read_header(path)
        assert refusal_of_header.value.faults == faults


@pytest.mark.parametrize("case", [*ODD, *itk_corpus.ODD], ids=attrgetter("label"))
def test_an_odd_but_legal_file_gives_the_documented_volume(case: Odd, tmp_path: Path) -> None:
    path = placed(case, tmp_path)
    volume, header = read(path), read_header(path)
    assert volume.data.dtype == header.dtype == case.data.dtype
    assert volume.data.dtype.isnative
    assert volume.data.flags.c_contiguous
    np.testing.assert_array_equal(volume.data, case.data)
    np.testing.assert_allclose(volume.affine, case.affine, atol=1e-5)
    assert volume.affine.dtype == np.float64
    assert (volume.space_code, header.space_code, volume.notes) == (case.space_code, case.space_code, ())
    assert header.path == path
    assert header.grid.distance_mm(volume.grid) == 0


WHOLE = [
    ("scan.nii", nifti()), ("scan.nii", nifti(version=2)), ("scan.nii.gz", squeeze(nifti())),
    ("scan.mha", metaimage()), ("scan.mha", metaimage(packed=True)),
    ("scan.nrrd", nrrd()), ("scan.nrrd", nrrd(packed=True)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "whole"), WHOLE)
def test_a_file_cut_anywhere_is_refused(name: str, whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / name
    for length in range(0, len(whole), 11):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError):
            read(path)


@pytest.mark.parametrize(("name", "whole"), [WHOLE[2], WHOLE[4], WHOLE[6]])
def test_a_changed_bit_of_a_gzip_stream_is_refused_or_changes_nothing(name: str, whole: bytes, tmp_path: Path) -> None:
    path, refused = tmp_path / name, 0
    first = max((whole.index(end) + len(end) for end in (b"LOCAL\n", b"\n\n") if end in whole[:600]), default=0)
    for position in range(first, len(whole)):
        path.write_bytes(flip(whole, position, bit=position % 8))
        try:
            volume = read(path)
        except DataError:
            refused += 1
        else:  # a time or a system in gzip's own header
            np.testing.assert_array_equal(volume.data, VOXELS)
    assert refused >= len(whole) - first - 10


def test_a_compressed_file_may_not_declare_more_than_16_gib(tmp_path: Path) -> None:
    path = tmp_path / "scan.nii.gz"
    path.write_bytes(squeeze(nifti(dim=(3, 2100, 2100, 2100, 1, 1, 1, 1))))
    os.truncate(path, 2**25)  # sparse zeros after the stream: as large as what would hold the voxels
    with pytest.raises(DataError, match="found 18,522,000,352 bytes declared, expected at most 17,179,869,184"):
        read(path)


def test_a_folder_a_pipe_and_an_impossible_path_are_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.nii").mkdir()
    os.mkfifo(tmp_path / "pipe.nii")
    for name in ("folder.nii", "pipe.nii"):
        with pytest.raises(DataError, match=f"{name}: found a folder or a device, expected a file"):
            read(tmp_path / name)
    with pytest.raises(DataError, match=r"cannot be read \(File name too long\)"):
        read(tmp_path / f"{'x' * 300}.nii")


def test_a_link_is_followed_and_a_path_may_be_text(tmp_path: Path) -> None:
    (tmp_path / "target.nii").write_bytes(nifti())
    (tmp_path / "scan.nii").symlink_to("target.nii")
    np.testing.assert_array_equal(read(str(tmp_path / "scan.nii")).data, VOXELS)


def test_too_little_memory_is_an_error_that_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: object) -> None:
        raise MemoryError

    (tmp_path / "scan.nii").write_bytes(nifti())
    monkeypatch.setattr(nifti_reader, "stored_voxels", exhausted)
    with pytest.raises(SetupError, match=r"scan.nii: its voxels do not fit into this machine's memory"):
        read(tmp_path / "scan.nii")


# Writing

PERMUTATIONS = [
    np.eye(3)[:, list(order)] * signs
    for order in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]


def rotation(x: float, y: float, z: float) -> np.ndarray:
    """A turn by the length of the vector, in radians, about it."""
    return np.asarray(expm(np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])))


def affine_of(axes: np.ndarray, origin: tuple[float, ...] = (-91.3, 126.7, -72.1)) -> np.ndarray:
    """The affine with these axes."""
    affine = np.eye(4)
    affine[:3, :3] = axes
    affine[:3, 3] = origin
    return affine


angle = st.floats(-3.14, 3.14)
length = st.floats(0.2, 6)
position = st.floats(-300, 300)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    axes=st.sampled_from(PERMUTATIONS),
    angles=st.tuples(angle, angle, angle),
    spacing=st.tuples(length, length, length),
    origin=st.tuples(position, position, position),
    side=st.integers(2, 9),
    code=st.integers(1, 5),
)
def test_every_voxel_stays_where_it_lay(
    axes: np.ndarray,
    angles: tuple[float, ...],
    spacing: tuple[float, ...],
    origin: tuple[float, ...],
    side: int,
    code: int,
    tmp_path: Path,
) -> None:
    affine = affine_of(rotation(*angles) @ axes * np.array(spacing), origin)
    data = np.arange(side * 5 * 4, dtype=np.float32).reshape(side, 5, 4)
    write(Volume(data, affine, code), tmp_path / "scan.nii")
    back = read(tmp_path / "scan.nii")
    np.testing.assert_array_equal(back.data, data)
    assert back.space_code == code
    assert back.grid.distance_mm(Grid(data.shape, affine)) <= 1e-4


@pytest.mark.parametrize("turn", [(0, 0, 0), (0.3, -0.5, 0.2)], ids=["aligned", "oblique"])
def test_other_programs_see_the_same_positions_in_all_48_orientations(
    turn: tuple[float, float, float], tmp_path: Path
) -> None:
    path = tmp_path / "scan.nii.gz"
    marker = np.zeros((6, 7, 8), np.float32)
    marker[1, 2, 5] = 1
    for axes in PERMUTATIONS:
        affine = affine_of(rotation(*turn) @ axes * np.array([0.9, 1.1, 2.3]))
        world = affine @ [1, 2, 5, 1]
        write(Volume(marker, affine), path)

        image = nibabel.load(path)
        for form in (image.get_sform(), image.get_qform()):
            np.testing.assert_allclose(form @ [1, 2, 5, 1], world, atol=1e-4)
        np.testing.assert_array_equal(image.get_fdata(), marker)

        other = sitk.ReadImage(str(path))
        assert other.GetPixel(1, 2, 5) == 1
        seen = np.array(other.TransformIndexToPhysicalPoint((1, 2, 5))) * (-1, -1, 1)  # SimpleITK's x, y are L and P
        np.testing.assert_allclose(seen, world[:3], atol=1e-4)


def test_both_forms_carry_the_code_and_a_sheared_affine_has_no_qform(tmp_path: Path) -> None:
    write(Volume(VOXELS, AFFINE, 4), tmp_path / "scan.nii")
    header = nibabel.load(tmp_path / "scan.nii").header
    assert (int(header["sform_code"]), int(header["qform_code"])) == (4, 4)
    assert header.get_xyzt_units()[0] == "mm"

    sheared = AFFINE.copy()
    sheared[:3, 0] += sheared[:3, 1]
    write(Volume(VOXELS, sheared, 4), tmp_path / "sheared.nii")
    header = nibabel.load(tmp_path / "sheared.nii").header
    assert (int(header["sform_code"]), int(header["qform_code"])) == (4, 0)
    np.testing.assert_allclose(header.get_zooms(), np.linalg.norm(sheared[:3, :3], axis=0), rtol=1e-6)
    assert read(tmp_path / "sheared.nii").grid.distance_mm(Grid(VOXELS.shape, sheared)) < 1e-5


@pytest.mark.parametrize("name", ["scan.nii.gz", "scan.mha", "scan.nrrd"])
def test_an_image_that_memory_cannot_hold_is_refused_before_any_is_taken(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few kB of zeros, compressed, that unfold to 9 bytes a voxel: as stored, as handed out, as booleans."""
    sitk.WriteImage(sitk.Image(128, 128, 128, sitk.sitkFloat32), str(tmp_path / name), useCompression=True)
    monkeypatch.setattr(memory, "free_memory", lambda: 9 * 128**3)
    assert read(tmp_path / name).shape == (128, 128, 128)
    monkeypatch.setattr(memory, "free_memory", lambda: 9 * 128**3 - 1)
    tracemalloc.start()
    with pytest.raises(SetupError) as refusal:
        read(tmp_path / name)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert name in str(refusal.value)
    assert peak < 2**22


@pytest.mark.parametrize("name", ENDINGS)
def test_the_type_on_disk(name: str, tmp_path: Path) -> None:
    wider = {"bool": "uint8", "int64": "int32", "uint64": "int32", "float16": "float32", "float64": "float32"}
    for given_type in (*wider, "int8", "uint8", "int16", ">i2", "uint16", "int32", "uint32", "float32", ">f4"):
        stored_type = np.dtype(wider.get(given_type, given_type)).newbyteorder("=")
        plain = (np.abs(VOXELS) % 100).astype(given_type)
        for data in (plain, np.asfortranarray(plain), np.repeat(plain, 2, axis=1)[:, ::2]):  # in any order in memory
            write(Volume(data, AFFINE), tmp_path / name)
            back = read(tmp_path / name)
            assert back.data.dtype == nibabel.load(tmp_path / name).get_data_dtype() == stored_type
            np.testing.assert_array_equal(back.data, data)


@pytest.mark.parametrize("name", ENDINGS)
def test_the_same_volume_gives_the_same_bytes_whatever_the_name_and_the_time(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(SOUND, tmp_path / name)
    monkeypatch.setattr("time.time", lambda: 2e9)
    write(SOUND, tmp_path / f"another{name}")
    assert (tmp_path / name).read_bytes() == (tmp_path / f"another{name}").read_bytes()


@pytest.mark.parametrize("packer", [gzip.GzipFile, igzip and igzip.IGzipFile], ids=["gzip", "isal"])
def test_any_program_unpacks_what_either_packer_wrote(
    packer: type[gzip.GzipFile] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if packer is None:
        pytest.skip("isal is not installed")
    monkeypatch.setattr(nifti_writer, "_GzipFile", packer)
    noise = np.random.default_rng(0).normal(100, 20, (40, 64, 64)).astype("<f4")
    for data in (noise, np.where(noise > 110, noise, 0).astype("<f4"), (noise > 110).astype("u1")):
        write(Volume(data, AFFINE), tmp_path / "scan.nii")
        write(Volume(data, AFFINE), tmp_path / "packed.nii.gz")
        content = (tmp_path / "packed.nii.gz").read_bytes()
        assert gzip.decompress(content) == (tmp_path / "scan.nii").read_bytes()
        assert content[3:8] == bytes(5)  # no name and no time
        assert len(content) <= 1.1 * len(gzip.compress(data.tobytes(order="F"), 1)) + 400
        np.testing.assert_array_equal(nibabel.load(tmp_path / "packed.nii.gz").get_fdata(), data)


def test_nothing_of_a_source_header_reaches_the_written_file(tmp_path: Path) -> None:
    canaries = {name: f"CANARY{name}"[:10].encode() for name in ("descrip", "db_name", "aux_file", "intent_name")}
    extension = struct.pack("<ii", 32, 6) + b"CANARY^PATIENT^NAME ..."
    source = squeeze(nifti(extension=extension + b"\0", cal_max=3.0, **canaries), name="CANARY.nii")
    (tmp_path / "CANARY.nii.gz").write_bytes(source)
    for name in ENDINGS:
        target = tmp_path / f"out{len(name)}_{name}"
        write(read(tmp_path / "CANARY.nii.gz"), target)
        content = target.read_bytes()
        assert b"CANARY" not in content
        assert b"CANARY" not in (gzip.decompress(content) if name.endswith("gz") else content)
    assert gzip.decompress(source).count(b"CANARY") == 5


@pytest.mark.parametrize("description", ["", "x" * 79])
def test_the_description_is_the_only_text(description: str, tmp_path: Path) -> None:
    write(SOUND, tmp_path / "scan.nii", description=description)
    header = (tmp_path / "scan.nii").read_bytes()[:348]
    assert header[148:228].rstrip(b"\0").decode() == (description or f"medtrans {__version__}")
    assert not any(header[4:39] + header[228:252] + header[328:344])


FAR_AWAY = affine_of(np.eye(3) * 0.1, (999_999.97, 0, 0))  # float32 makes 1,000,000 of it


@pytest.mark.parametrize(
    ("data", "affine", "name", "description", "says"),
    [
        (np.full((2, 2, 2), np.nan), AFFINE, "scan.nii", "", "8 of 8 voxels are NaN"),
        (np.full((2, 2, 2), 1e300), AFFINE, "scan.nii", "", "8 of 8 voxels lie beyond float32"),
        (VOXELS + np.int64(2**31), AFFINE, "scan.nii", "", "found int64 from 2,147,483,548"),
        (VOXELS - np.int64(2**31), AFFINE, "scan.nii", "", "found int64 from -2,147,483,748"),
        (np.full((2, 2, 2), 2**63, np.uint64), AFFINE, "scan.nii", "", "found uint64 from 9,223,372"),
        (VOXELS[:1], AFFINE, "scan.nii", "", r"found a volume of \(1, 5, 6\) voxels"),
        (np.zeros((2, 2, 32768), "u1"), AFFINE, "scan.nii", "", "found a volume of .* expected 2 to 32,767 a side"),
        (VOXELS, FAR_AWAY, "scan.nii", "", "affine: .* moves it by more than 0.01 voxel"),
        (VOXELS, AFFINE, "scan.nrrd", "", "found the ending '.nrrd', expected .nii.gz or .nii;"),
        (VOXELS, AFFINE, "other.nii.gz", "", "other.nii lies beside it"),
        (VOXELS, AFFINE, "scan.nii", "x" * 80, "description: .* at most 79 ASCII characters"),
        (VOXELS, AFFINE, "scan.nii", "Schädel", "description: .* at most 79 ASCII"),
    ],
)
def test_what_could_not_be_read_again_is_not_written(
    data: np.ndarray, affine: np.ndarray, name: str, description: str, says: str, tmp_path: Path
) -> None:
    (tmp_path / "other.nii").write_bytes(b"")
    with pytest.raises(DataError, match=f"{name}: {says}"):
        write(Volume(data, affine), tmp_path / name, description=description)
    assert [entry.name for entry in tmp_path.iterdir()] == ["other.nii"]


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes, as on a disk with no more room."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("name", ENDINGS)
@pytest.mark.parametrize("size", [0, 352, 5000])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(name: str, size: int, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(size=(16, 16, 16)).astype(np.float32)
    write(SOUND, tmp_path / name)
    with (
        largest_file(size),
        pytest.raises(SetupError, match=rf"{name}: cannot be written .File too large.: up to 16,736 bytes are needed"),
    ):
        write(Volume(noise, AFFINE), tmp_path / name)
    assert [entry.name for entry in tmp_path.iterdir()] == [name]
    np.testing.assert_array_equal(read(tmp_path / name).data, VOXELS)


def test_a_folder_that_is_missing_or_closed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SetupError, match=r"scan.nii: cannot be written, since there is no folder .*gone\. Make it"):
        write(SOUND, tmp_path / "gone" / "scan.nii")
    (tmp_path / "scan.nii").mkdir()
    with pytest.raises(SetupError, match=r"scan.nii: cannot be written \(Is a directory\)"):
        write(SOUND, tmp_path / "scan.nii")

    def closed(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "mkdtemp", closed)
    with pytest.raises(
        SetupError, match=r"new.nii: cannot be written \(Permission denied\): up to 592 bytes are needed"
    ):
        write(SOUND, tmp_path / "new.nii")
    assert [entry.name for entry in tmp_path.iterdir()] == ["scan.nii"]


@pytest.mark.parametrize(
    "back",
    [
        Volume(VOXELS + np.int16(VOXELS == -2), AFFINE),
        Volume(VOXELS.astype(np.int32), AFFINE),
        Volume(VOXELS, AFFINE + np.array([[0, 0, 0, 1e-4], *[[0] * 4] * 3])),
        Volume(VOXELS, AFFINE, 2),
        DataError("cut"),
    ],
    ids=["a voxel", "the type", "the position", "the code", "unreadable"],
)
def test_a_file_that_reads_back_otherwise_is_not_kept(
    back: Volume | DataError, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_back(_: Path) -> Volume:
        assert (tmp_path / "scan.nii").read_bytes() == before  # the new file has not taken the name yet
        if isinstance(back, DataError):
            raise back
        return back

    write(SOUND, tmp_path / "scan.nii")
    before = (tmp_path / "scan.nii").read_bytes()
    monkeypatch.setattr(volume_io, "read", read_back)
    with pytest.raises(
        SetupError, match=r"scan.nii: what was written (reads back differently|cannot be read back: cut)"
    ):
        write(SOUND, tmp_path / "scan.nii")
    assert (tmp_path / "scan.nii").read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["scan.nii"]


# Volumes and grids


def test_a_volume_knows_its_spacing_orientation_and_corners() -> None:
    assert SOUND.shape == (4, 5, 6)
    assert SOUND.spacing_mm == (2.0, 2.5, 1.5)
    assert SOUND.orientation == "PSR"
    assert SOUND.grid.spacing_mm == SOUND.spacing_mm
    assert SOUND.affine is not AFFINE
    assert SOUND.affine.dtype == np.float64
    corners = SOUND.grid.corners_mm()
    assert corners.shape == (8, 3)
    np.testing.assert_allclose(corners.min(axis=0), [-40.25, 31.5 - 3 * 2, 12])
    np.testing.assert_allclose(corners.max(axis=0), [-40.25 + 5 * 1.5, 31.5, 12 + 4 * 2.5])


def test_the_distance_of_grids_is_that_of_the_corners_furthest_apart() -> None:
    grid = Grid((11, 5, 5), np.eye(4))
    assert grid.distance_mm(grid) == 0
    assert grid.distance_mm(Grid((11, 5, 5), np.diag([1.1, 1, 1, 1]))) == pytest.approx(1.0)
    assert grid.distance_mm(Grid((11, 5, 5), np.diag([-1.0, 1, 1, 1]))) == pytest.approx(20)
    assert grid.distance_mm(Grid((11, 5, 6), np.eye(4))) == np.inf


@pytest.mark.parametrize(
    ("data", "affine", "code", "says"),
    [
        (VOXELS[0], AFFINE, 1, r"found an array of shape \(5, 6\)"),
        (VOXELS.astype(np.complex64), AFFINE, 1, "type complex64, expected three axes"),
        (VOXELS, AFFINE[:3], 1, "affine: found .* expected 4 × 4 numbers"),
        (VOXELS, AFFINE.T, 1, "expected 4 × 4 numbers with 0, 0, 0, 1 in the last row"),
        (VOXELS, AFFINE * [0, 1, 1, 1], 1, "affine: found a singular matrix"),
        (VOXELS, AFFINE * [1, 1, 1, np.nan], 1, "expected 4 × 4 numbers"),
        (VOXELS, np.diag([np.inf, 1, 1, 1]), 1, "affine: found NaN or infinity"),
        (VOXELS, AFFINE, 0, "space_code: found 0, expected 1 to 5"),
        (VOXELS, AFFINE, 6, "space_code: found 6, expected 1 to 5"),
    ],
)
def test_a_volume_that_lies_nowhere_is_refused(data: np.ndarray, affine: np.ndarray, code: int, says: str) -> None:
    with pytest.raises(DataError, match=says):
        Volume(data, affine, code)


def test_importing_the_reader_brings_no_torch() -> None:
    program = "import medtrans.volume, sys; sys.exit('torch' in sys.modules or 'torchio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
