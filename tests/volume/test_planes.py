"""A volume written and read plane by plane is the volume written and read whole."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medtrans.errors import DataError
from medtrans.volume import Volume, read, write
from medtrans.volume.planes import PlaneReader, written_planes

AFFINE = np.array([[0, -1.5, 0, 10], [2.0, 0, 0, -20], [0, 0, 3, 5], [0, 0, 0, 1]])


def _volume(shape: tuple[int, int, int] = (7, 9, 11)) -> Volume:
    return Volume(np.random.default_rng(1).normal(0, 50, shape).astype(np.float32), AFFINE, 4)


def _write(volume: Volume, path: Path, together: int) -> None:
    with written_planes(path, volume.grid, volume.space_code) as writer:
        for first in range(0, volume.shape[2], together):
            writer.write(volume.data[:, :, first : first + together].T)


@pytest.mark.parametrize(("ending", "together"), [(".nii", 4), (".nii.gz", 1), (".nii.gz", 11)])
def test_the_bytes_are_those_of_the_volume_written_whole(tmp_path: Path, ending: str, together: int) -> None:
    volume = _volume()
    write(volume, tmp_path / f"whole{ending}")
    _write(volume, tmp_path / f"planes{ending}", together)
    assert (tmp_path / f"planes{ending}").read_bytes() == (tmp_path / f"whole{ending}").read_bytes()


@pytest.mark.parametrize("kind", [np.int16, np.float64, np.uint8])
def test_planes_hold_what_the_whole_holds(tmp_path: Path, kind: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medtrans.volume.planes.CHUNK", 2 * 7 * 9 * np.dtype(kind).itemsize)
    image = nib.Nifti1Image(np.arange(7 * 9 * 11).reshape(7, 9, 11).astype(kind), AFFINE)
    if kind is np.int16:
        image.header.set_slope_inter(0.5, 3)
    image.header.set_sform(AFFINE, 1)
    image.header.set_xyzt_units("mm")
    path = tmp_path / "image.nii.gz"
    nib.save(image, path)
    reader, whole = PlaneReader(path), read(path)
    parts = list(reader.planes())
    assert [len(part) for part in parts] == [2, 2, 2, 2, 2, 1]
    np.testing.assert_array_equal(np.concatenate(parts).T, whole.data)
    assert parts[0].dtype == whole.data.dtype == reader.layout.dtype
    np.testing.assert_array_equal(np.concatenate(list(reader.planes(3, 8))).T, whole.data[:, :, 3:8])


@pytest.mark.parametrize("fault", ["few", "many", "infinite"])
def test_nothing_stands_under_the_name_of_what_was_not_finished(tmp_path: Path, fault: str) -> None:
    planes = _volume().data.T.copy()
    given = {"few": planes[:5], "many": np.concatenate([planes, planes]), "infinite": np.full_like(planes, np.inf)}

    def write_planes() -> None:
        with written_planes(tmp_path / "out.nii.gz", _volume().grid) as writer:
            writer.write(given[fault])

    with pytest.raises(DataError, match=r"out\.nii\.gz"):
        write_planes()
    assert list(tmp_path.iterdir()) == []
