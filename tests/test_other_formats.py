"""MetaImage and NRRD files: what is read, what is refused, and that they lie where NIfTI of the same image lies."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 -- its usual name

from medtrans import itk_guard
from medtrans.errors import DataError, SetupError
from medtrans.volume import Grid, ReadingRules, Volume, files_of, read, read_header, write

from .itk_corpus import BAD, ODD, WORLD, metaimage, nrrd
from .nifti_corpus import AFFINE, VOXELS, Bad, Odd
from .test_volume import PERMUTATIONS, affine_of, label, placed, rotation

ENDINGS = ["mha", "mhd", "nrrd"]
FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])
RAW = VOXELS.astype("<i2").tobytes(order="F")


def test_the_corpus_is_large_enough_and_its_labels_differ() -> None:
    assert len({case.label for case in BAD}) == len(BAD) >= 100
    assert len({case.label for case in ODD}) == len(ODD) >= 60


@pytest.mark.parametrize("case", BAD, ids=label)
def test_a_bad_file_is_refused_with_every_fault_named(case: Bad, tmp_path: Path) -> None:
    path = placed(case, tmp_path)
    with pytest.raises(DataError) as refusal:
        read(path)
    faults = refusal.value.faults
    assert len(faults) == len(case.says), faults
    for fault, says in zip(faults, case.says, strict=True):
        assert fault.startswith((str(path), str(path.with_name("scan.raw"))))
        assert says in fault
        assert fault.endswith(".")
        assert len(fault) < 600


@pytest.mark.parametrize("case", BAD, ids=label)
def test_the_header_alone_shows_all_but_what_lies_in_the_voxels(case: Bad, tmp_path: Path) -> None:
    path = placed(case, tmp_path)
    if case.late:
        assert read_header(path).grid.shape == VOXELS.shape
        return
    with pytest.raises(DataError) as refusal:
        read_header(path)
    with pytest.raises(DataError) as refusal_with_voxels:
        read(path)
    assert refusal.value.faults == refusal_with_voxels.value.faults


def test_simpleitk_does_not_see_a_file_whose_header_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "SimpleITK", None)  # importing it fails
    for case in BAD:
        folder = tmp_path / case.label.replace("/", "_")
        folder.mkdir()
        if not case.says[0].startswith(("1 of 120", "voxels are")):  # voxels that are all there and not finite
            with pytest.raises(DataError):
                read(placed(case, folder))


@pytest.mark.parametrize("case", ODD, ids=label)
def test_an_odd_but_legal_file_gives_the_documented_volume(case: Odd, tmp_path: Path) -> None:
    path = placed(case, tmp_path)
    volume, header = read(path), read_header(path)
    assert volume.data.dtype == header.dtype == case.data.dtype
    assert volume.data.dtype.isnative
    assert volume.data.flags.c_contiguous
    np.testing.assert_array_equal(volume.data, case.data)
    np.testing.assert_allclose(volume.affine, case.affine, rtol=0, atol=1e-12)
    assert (volume.space_code, header.space_code, volume.notes) == (1, 1, ())
    assert header.grid.distance_mm(volume.grid) == 0


def test_an_ordinary_file_lies_where_the_nifti_corpus_lies(tmp_path: Path) -> None:
    for name, content in (("scan.mha", metaimage()), ("scan.nrrd", nrrd())):
        (tmp_path / name).write_bytes(content)
        np.testing.assert_allclose(read(tmp_path / name).affine, AFFINE, atol=1e-12)


@pytest.mark.parametrize("turn", [(0, 0, 0), (0.3, -0.5, 0.2)], ids=["aligned", "oblique"])
@pytest.mark.parametrize("ending", ENDINGS)
def test_nibabel_puts_every_voxel_where_the_same_image_written_as_nifti_has_it(
    ending: str, turn: tuple[float, float, float], tmp_path: Path
) -> None:
    marker = np.zeros((6, 7, 8), np.float32)
    marker[1, 2, 5] = 1
    for axes in PERMUTATIONS:
        world = FLIP @ affine_of(rotation(*turn) @ axes * np.array([0.9, 1.1, 2.3]))
        image = sitk.GetImageFromArray(marker.T)
        spacing = np.linalg.norm(world[:3, :3], axis=0)
        image.SetSpacing(spacing.tolist())
        image.SetDirection((world[:3, :3] / spacing).ravel().tolist())
        image.SetOrigin(world[:3, 3].tolist())
        sitk.WriteImage(image, str(tmp_path / f"scan.{ending}"))
        sitk.WriteImage(image, str(tmp_path / "scan.nii"))

        volume, same = read(tmp_path / f"scan.{ending}"), nibabel.load(tmp_path / "scan.nii")
        np.testing.assert_array_equal(volume.data, same.get_fdata())
        assert volume.grid.distance_mm(Grid(marker.shape, same.affine)) < 1e-4  # NIfTI's float32
        np.testing.assert_allclose(volume.affine, FLIP @ world, atol=1e-9)  # and exactly where it was put


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "compressed"])
@pytest.mark.parametrize("kind", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
def test_what_simpleitk_writes_is_read_with_its_values(ending: str, packed: bool, kind: str, tmp_path: Path) -> None:
    voxels = (np.abs(VOXELS) % 100).astype(kind)
    path = tmp_path / f"scan.{ending}"
    sitk.WriteImage(sitk.GetImageFromArray(voxels.T.copy()), str(path), packed)
    volume = read(path)
    np.testing.assert_array_equal(volume.data, voxels)
    assert volume.data.dtype == (np.float32 if voxels.dtype.kind == "f" else voxels.dtype)
    assert volume.orientation == "LPS"


@pytest.mark.parametrize("content", [metaimage(), nrrd(), metaimage(packed=True), nrrd(packed=True)])
def test_a_file_cut_anywhere_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / ("scan.nrrd" if content.startswith(b"NRRD") else "scan.mha")
    for length in range(0, len(content), 5):
        path.write_bytes(content[:length])
        with pytest.raises(DataError):
            read(path)


@pytest.mark.parametrize("make", [metaimage, nrrd])
def test_a_changed_bit_of_the_compressed_voxels_is_refused_or_changes_nothing(make: Any, tmp_path: Path) -> None:
    whole, path, refused = make(packed=True), tmp_path / f"scan.{'mha' if make is metaimage else 'nrrd'}", 0
    body = len(make(packed=True)) - len(make(packed=True).split(b"LOCAL\n" if make is metaimage else b"\n\n", 1)[1])
    for position in range(body, len(whole)):
        changed = bytearray(whole)
        changed[position] ^= 1 << (position % 8)
        path.write_bytes(changed)
        try:
            volume = read(path)
        except DataError:
            refused += 1
        else:  # a time or a system in gzip's own header
            np.testing.assert_array_equal(volume.data, VOXELS)
    assert refused >= len(whole) - body - 10


@pytest.mark.parametrize("name", ["scan.raw", "my scan.raw", "Schädel.zraw"])
def test_voxels_may_lie_in_one_file_in_the_same_folder(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(RAW)
    mhd, detached = tmp_path / "scan.mhd", tmp_path / "scan.nrrd"
    mhd.write_bytes(metaimage(raw=b"", ElementDataFile=name))
    detached.write_bytes(nrrd(raw=b"", data_file=name))
    for path in (mhd, detached):
        np.testing.assert_array_equal(read(path).data, VOXELS)
        assert files_of(path) == (path, tmp_path / name)
    mhd.write_bytes(mhd.read_bytes().rstrip(b"\n"))  # a last line without an end
    np.testing.assert_array_equal(read(mhd).data, VOXELS)


def test_an_image_in_one_file_is_that_file(tmp_path: Path) -> None:
    (tmp_path / "scan.mha").write_bytes(metaimage())
    assert files_of(tmp_path / "scan.mha") == (tmp_path / "scan.mha",)
    assert files_of(tmp_path / "not looked at.nii.gz") == (tmp_path / "not looked at.nii.gz",)


def test_a_name_that_would_end_the_process_in_simpleitk_is_refused(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.mha"))
    path.write_bytes(metaimage())
    with pytest.raises(DataError, match="the name is no UTF-8 text") as refusal:
        read(path)
    str(refusal.value).encode()  # and the message can be printed


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"data": VOXELS + np.int16(VOXELS == -2)}, "SimpleITK gives other voxels than the file holds"),
        ({"data": VOXELS.astype("i4")}, r"SimpleITK reads int32 \(4, 5, 6\), expected int16 \(4, 5, 6\)"),
        ({"data": VOXELS[:, :, :5]}, r"SimpleITK reads int16 \(4, 5, 5\), expected int16 \(4, 5, 6\)"),
        ({"origin": (40.25, -31.5, 12.5)}, "SimpleITK reads corners up to 0.5 mm away, expected where the header puts"),
        ({"spacing": (2, 2.5, 1.6)}, "SimpleITK reads corners up to 0.5 mm away"),
        ({"direction": (1, 0, 0, 0, 1, 0, 0, 0, 1)}, "SimpleITK reads corners up to"),
    ],
    ids=["a voxel", "the type", "the size", "the origin", "the spacing", "the direction"],
)
def test_what_simpleitk_gives_must_be_what_the_file_holds(
    changed: dict[str, Any], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gave uninitialised memory for files that it did not understand."""
    spacing = np.linalg.norm(WORLD[:3, :3], axis=0)
    given = {"data": VOXELS, "origin": WORLD[:3, 3], "spacing": spacing, "direction": (WORLD[:3, :3] / spacing).ravel()}
    image = sitk.GetImageFromArray((given | changed)["data"].T.copy())
    image.SetOrigin([float(x) for x in (given | changed)["origin"]])
    image.SetSpacing([float(x) for x in (given | changed)["spacing"]])
    image.SetDirection([float(x) for x in (given | changed)["direction"]])
    (tmp_path / "scan.mha").write_bytes(metaimage())
    monkeypatch.setattr(itk_guard, "_decoded", lambda *_: image)
    with pytest.raises(DataError, match=f"scan.mha: {says}"):
        read(tmp_path / "scan.mha")


@pytest.mark.parametrize(
    ("said", "error", "says"),
    [
        ("ITK ERROR:\nno such thing", DataError, r"scan.mha: SimpleITK cannot read it \(no such thing\). Convert it"),
        ("Failed to allocate memory for image.", SetupError, "scan.mha: its voxels do not fit into this machine's mem"),
    ],
)
def test_what_simpleitk_says_is_passed_on_with_the_file(
    said: str, error: type[Exception], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> None:
        raise RuntimeError(said)

    (tmp_path / "scan.mha").write_bytes(metaimage())
    monkeypatch.setattr(sitk.ImageFileReader, "Execute", refuse)
    with pytest.raises(error, match=says):
        read(tmp_path / "scan.mha")


@pytest.mark.parametrize(("name", "content"), [("scan.mha", metaimage()), ("scan.nrrd", nrrd())])
def test_only_nifti_is_written(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=r"expected \.nii or \.nii\.gz"):
        write(Volume(VOXELS, AFFINE), tmp_path / name)
    write(read(tmp_path / name), tmp_path / "scan.nii.gz")
    back = read(tmp_path / "scan.nii.gz")
    np.testing.assert_array_equal(back.data, VOXELS)
    np.testing.assert_allclose(back.affine, AFFINE, atol=1e-6)


def test_simpleitk_is_imported_only_for_its_formats(tmp_path: Path) -> None:
    (tmp_path / "scan.mha").write_bytes(metaimage())
    write(Volume(VOXELS, AFFINE), tmp_path / "scan.nii")
    script = (
        "import sys; from medtrans.volume import read, read_header\n"
        f"read({str(tmp_path / 'scan.nii')!r}); read_header({str(tmp_path / 'scan.mha')!r})\n"
        "print('SimpleITK' in sys.modules, 'torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["False", "False"]


# Files that name no space


@pytest.mark.parametrize(
    ("name", "content", "world", "note"),
    [
        (
            "scan.mha",
            metaimage(Offset=None),
            WORLD - np.array([[0, 0, 0, x] for x in WORLD[:, 3] * (1, 1, 1, 0)]),
            "the header has no Offset: placed without",
        ),
        ("scan.mha", metaimage(TransformMatrix=None, Offset="1 2 3"), (2, 2.5, 1.5, 1, 2, 3), "no TransformMatrix"),
        ("scan.nrrd", nrrd(space="scanner-xyz"), WORLD, "axes taken as left, posterior, superior"),
        (
            "scan.nrrd",
            nrrd(space=None).replace(b"sizes", b"space dimension: 3\nsizes"),
            WORLD,
            "the header names no anatomical space",
        ),
        (
            "scan.nrrd",
            nrrd(space=None, space_directions=None, space_origin=None, spacings="2 2.5 1.5"),
            (2, 2.5, 1.5, 0, 0, 0),
            "the header names no anatomical space",
        ),
    ],
)
def test_a_file_without_a_space_is_read_where_the_user_accepts_that(
    name: str, content: bytes, world: Any, note: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match="accept_unknown_space: true"):
        read(tmp_path / name)
    rules = ReadingRules(accept_unknown_space=True)
    volume = read(tmp_path / name, rules)
    if not isinstance(world, np.ndarray):
        world, spacing, origin = np.eye(4), world[:3], world[3:]
        world[:3, :3], world[:3, 3] = np.diag(spacing), origin
    np.testing.assert_allclose(volume.affine, FLIP @ world, atol=1e-9)
    np.testing.assert_array_equal(volume.data, VOXELS)
    assert volume.space_code == 1
    assert len(volume.notes) == 1
    assert note in volume.notes[0]
    assert volume.notes[0].endswith("(reading.accept_unknown_space)")
    assert read_header(tmp_path / name, rules).notes == volume.notes


def test_a_spacing_is_needed_all_the_same(tmp_path: Path) -> None:
    rules = ReadingRules(accept_unknown_space=True)
    unplaced = {"space": None, "space_directions": None, "space_origin": None}
    for name, content, says in (
        ("scan.mha", metaimage(ElementSpacing=None), "ElementSpacing: found none"),
        ("scan.nrrd", nrrd(**unplaced), "spacings: found none, expected 3 finite numbers"),
        ("scan.nrrd", nrrd(**unplaced, spacings="1 1 1", axis_mins="1 2 3"), "axis mins: found '1 2 3'"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=says):
            read(tmp_path / name, rules)


def test_all_rules_at_once_change_nothing_of_a_file_that_needs_none(tmp_path: Path) -> None:
    rules = ReadingRules("qform", accept_unknown_space=True, fill_not_finite=7.0)
    for (name, content), packed in itertools.product((("scan.mha", metaimage), ("scan.nrrd", nrrd)), (False, True)):
        (tmp_path / name).write_bytes(content(VOXELS.astype("f4"), packed=packed))
        volume = read(tmp_path / name, rules)
        assert volume.notes == ()
        np.testing.assert_array_equal(volume.data, VOXELS)
        np.testing.assert_allclose(volume.affine, AFFINE, atol=1e-12)
