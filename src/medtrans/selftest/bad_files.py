"""Owns the check that a wrong image is refused by name and never read in silence."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

from medtrans.errors import DataError
from medtrans.selftest.payloads import scan
from medtrans.volume import read

__all__ = ["check"]


def check(folder: Path) -> tuple[bool, str]:
    """Read a sound file, and every bad one."""
    (folder / "sound.nii").write_bytes(scan())
    (folder / "sound.nii.gz").write_bytes(gzip.compress(scan()))
    for name in ("sound.nii", "sound.nii.gz"):
        _alone(folder, name)
    silent, unnamed = [], []
    for label, make in BAD.items():
        name = "scan.nii.gz" if "gzip" in label else "scan.nii"
        home = folder / label.replace(" ", "_")
        home.mkdir()
        make(home / name)
        try:
            read(home / name)
        except DataError as error:
            unnamed += [] if name in str(error) else [label]
        else:
            silent.append(label)
    figure = f"{len(BAD)} bad files, {len(silent)} read in silence, {len(unnamed)} refused without a name"
    return not (silent or unnamed), figure if not silent else f"{figure}: {silent[0]}"


def _alone(folder: Path, name: str) -> None:
    """Read one of the two sound files, which together would be ambiguous."""
    home = folder / f"alone-{name}"
    home.mkdir()
    (home / name).write_bytes((folder / name).read_bytes())
    if read(home / name).shape != (4, 4, 4):
        raise DataError(f"{name}: a sound file was read wrongly")


def _bytes(make: Callable[[], bytes]) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(make())


def _field(offset: int, form: str, *values: float | bytes) -> Callable[[Path], object]:
    """A sound file with one field of its header set otherwise."""

    def make() -> bytes:
        content = bytearray(scan())
        struct.pack_into(form, content, offset, *values)
        return bytes(content)

    return _bytes(make)


def _flipped() -> bytes:
    packed = bytearray(gzip.compress(scan(16, side=16)))
    packed[len(packed) // 2] ^= 16
    return bytes(packed)


def _twins(path: Path) -> None:
    path.write_bytes(scan())
    path.with_name("scan.nii.gz").write_bytes(gzip.compress(scan(5, side=5)))


BAD: Mapping[str, Callable[[Path], object]] = {
    "nothing": _bytes(bytes),
    "cut short": _bytes(lambda: scan()[:-20]),
    "gzip cut short": _bytes(lambda: gzip.compress(scan(16, side=16))[:-900]),
    "gzip with a changed bit": _bytes(_flipped),
    "gzip with more behind it": _bytes(lambda: gzip.compress(scan() + b"more")),
    "no NIfTI": _field(344, "<4s", b"nope"),
    "sides of nothing": _field(42, "<3h", 4, 0, 4),
    "more voxels than bytes": _field(42, "<3h", 400, 400, 400),
    "another type than stated": _field(70, "<hh", 64, 64),
    "bits that do not fit the type": _field(72, "<h", 8),
    "no orientation": _field(252, "<hh", 0, 0),
    "qform against sform": _field(252, "<hh6f", 1, 1, 0, 1, 0, 0, 0, 0),
    "an affine that is flat": _field(280, "<12f", *([0.0] * 12)),
    "an affine with NaN": _field(280, "<f", float("nan")),
    "several volumes": _field(40, "<5h", 4, 4, 4, 2, 2),
    "a stream of zeros behind": _field(108, "<f", 1e9),
    "two versions side by side": _twins,
}
