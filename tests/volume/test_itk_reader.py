"""MetaImage and NRRD files: what is read, what is refused, and that they lie where NIfTI of the same image lies."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 -- its usual name

from medtrans.errors import DataError
from medtrans.volume import Grid, ReadingRules, files_of, read, read_header
from tests.helpers.itk_corpus import FLIP, WORLD, metaimage, nrrd
from tests.helpers.nifti_corpus import AFFINE, VOXELS
from tests.volume.test_io import PERMUTATIONS, affine_of, rotation

ENDINGS = ["mha", "mhd", "nrrd"]
AT_ORIGIN = WORLD * [1, 1, 1, 0] + np.diag([0, 0, 0, 1])
UNPLACED = {"space": None, "space_directions": None, "space_origin": None}
RAW = VOXELS.astype("<i2").tobytes(order="F")


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


@pytest.mark.parametrize("kind", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
@pytest.mark.parametrize("make", [metaimage, nrrd])
def test_simpleitk_reads_the_same_voxels_at_the_same_place(make: Any, kind: str, tmp_path: Path) -> None:
    """In every byte order and compression, of files that we write and of files that it writes."""
    voxels = (np.abs(VOXELS) % 100).astype(kind)
    ending = "mha" if make is metaimage else "nrrd"
    for order, packed in itertools.product("<>", (False, True)):
        ours, theirs = tmp_path / f"ours.{ending}", tmp_path / f"theirs.{ending}"
        ours.write_bytes(make(voxels, order=order, packed=packed))
        judged = sitk.ReadImage(str(ours))
        sitk.WriteImage(judged, str(theirs), packed)
        for path in (ours, theirs):
            volume = read(path)
            np.testing.assert_array_equal(volume.data, sitk.GetArrayFromImage(judged).T)
            np.testing.assert_array_equal(volume.data, voxels)
            assert volume.data.dtype == (np.float32 if voxels.dtype.kind == "f" else voxels.dtype)
            corner = judged.TransformIndexToPhysicalPoint((3, 4, 5))
            np.testing.assert_allclose((volume.affine @ (3, 4, 5, 1))[:3], corner * np.array([-1, -1, 1]), atol=1e-9)


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


def test_a_name_that_is_no_text_is_read(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.mha"))
    path.write_bytes(metaimage())
    np.testing.assert_array_equal(read(path).data, VOXELS)


# Files that name no space


@pytest.mark.parametrize(
    ("name", "content", "world", "note"),
    [
        ("scan.mha", metaimage(Offset=None), AT_ORIGIN, "the header has no Offset: placed without"),
        ("scan.mha", metaimage(TransformMatrix=None, Offset="1 2 3"), (2, 2.5, 1.5, 1, 2, 3), "no TransformMatrix"),
        ("scan.nrrd", nrrd(space="scanner-xyz"), WORLD, "axes taken as left, posterior, superior"),
        ("scan.nrrd", nrrd(**UNPLACED, spacings="2 2.5 1.5"), (2, 2.5, 1.5, 0, 0, 0), "names no anatomical space"),
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
    for name, content, says in (
        ("scan.mha", metaimage(ElementSpacing=None), "ElementSpacing: found none"),
        ("scan.nrrd", nrrd(**UNPLACED), "spacings: found none, expected 3 finite numbers"),
        ("scan.nrrd", nrrd(**UNPLACED, spacings="1 1 1", axis_mins="1 2 3"), "axis mins: found '1 2 3'"),
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
