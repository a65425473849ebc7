"""Compressed images are gzip streams that anybody unpacks, as small as gzip's own."""

from __future__ import annotations

import gzip
import io
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medtrans.gzip_writer import GzipWriter
from medtrans.volume import Volume, read, write


def packed(data: bytes, *cuts: int) -> bytes:
    """`data`, written in pieces."""
    file = io.BytesIO()
    writer = GzipWriter(file)
    for start, stop in pairwise([0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]):
        writer.write(data[start:stop])
    writer.close()
    return file.getvalue()


VOXELS = np.random.default_rng(0).normal(100, 20, (40, 64, 64)).astype("<f4")
KINDS = {
    "nothing": b"",
    "noise": VOXELS.tobytes(),
    "noise on black": np.where(VOXELS > 110, VOXELS, 0).astype("<f4").tobytes(),
    "noise on air": np.where(VOXELS > 110, VOXELS, -1000.3).astype("<f4").tobytes(),
    "one value": np.full(VOXELS.shape, 3.7, "<f4").tobytes(),
    "integers": VOXELS.astype("<i2").tobytes(),
    "labels": (VOXELS > 110).astype("u1").tobytes(),
    "doubled slices": np.repeat(VOXELS[:, :32], 2, axis=1).tobytes(),
    "noise, then one value": VOXELS.tobytes() + bytes(700_000),
}


@pytest.mark.parametrize("kind", KINDS)
def test_it_unpacks_and_is_as_small_as_gzip(kind: str) -> None:
    data = KINDS[kind]
    found = packed(data)
    assert gzip.decompress(found) == data
    assert len(found) <= 1.05 * len(gzip.compress(data, 1)) + 50


@given(size=st.integers(0, 900_000), cuts=st.lists(st.integers(0, 900_000), max_size=4))
def test_how_it_was_cut_into_writes_does_not_show(size: int, cuts: list[int]) -> None:
    data = KINDS["noise on black"][:size]
    assert packed(data, *cuts) == packed(data)
    assert gzip.decompress(packed(data)) == data


@pytest.mark.skipif(shutil.which("gzip") is None, reason="there is no gzip")
def test_other_programs_unpack_what_is_written(tmp_path: Path) -> None:
    path = tmp_path / "image.nii.gz"
    write(Volume(VOXELS, np.eye(4)), path)
    unpacked = subprocess.run(["gzip", "-dc", str(path)], capture_output=True, check=True).stdout
    (tmp_path / "plain.nii").write_bytes(unpacked)
    np.testing.assert_array_equal(read(tmp_path / "plain.nii").data, VOXELS)
