"""Owns the bytes that attack: each would leave a mark, a file named by its caller, if anything ran or followed it."""

from __future__ import annotations

import gzip
import io
import json
import struct
import zipfile  # noqa: TID251 -- written, never unpacked
import zlib

__all__ = ["archive", "bomb", "builtin_pickle", "npy", "pickle_of", "safetensors", "scan", "torch_archive"]


def pickle_of(mark: str, module: str = "posix", name: str = "system") -> bytes:
    """A pickle that calls a function with a command which leaves the mark."""
    return f"c{module}\n{name}\n(S'touch {mark}'\ntR.".encode()


def builtin_pickle(mark: str, name: str) -> bytes:
    """A pickle that gives Python source to `eval` or `exec`."""
    return f'cbuiltins\n{name}\n(S\'open("{mark}", "w")\'\ntR.'.encode()


def archive(entries: dict[str, bytes]) -> bytes:
    """A zip archive with entries of any name, uncompressed."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        for name, content in entries.items():
            packed.writestr(zipfile.ZipInfo(name), content)
    return buffer.getvalue()


def torch_archive(pickled: bytes, more: dict[str, bytes] | None = None) -> bytes:
    """What torch writes, with a pickle of one's own in it."""
    return archive(
        {"archive/data.pkl": pickled, "archive/byteorder": b"little", "archive/version": b"3\n"} | (more or {})
    )


def npy(payload: bytes, dtype: str = "|O") -> bytes:
    """A numpy file of objects, which is a pickle behind a header."""
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': (2,), }}"
    header += " " * (63 - (10 + len(header)) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + payload


def safetensors(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file with a header of any content and stated length."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def bomb(declared: int) -> bytes:
    """A gzip stream of zeros that is a thousandth of what it becomes."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return scan_gz(packer.compress(bytes(declared)) + packer.flush())


def scan_gz(tail: bytes) -> bytes:
    """A compressed scan with another gzip stream behind it."""
    return gzip.compress(scan(), mtime=0) + tail


def scan(voxels: int = 4, *, side: int = 4, offset: float = 352.0, extension: bytes = b"") -> bytes:
    """A NIfTI file of int16, sound with its defaults.

    Args:
        voxels: along each side, really there.
        side: stated in the header.
        offset: at which the header says the voxels begin.
        extension: a header extension, with its own size and code in front.
    """
    header = bytearray(348)
    for place, form, *values in (
        (0, "<i", 348),
        (40, "<8h", 3, side, side, side, 1, 1, 1, 1),
        (70, "<hh", 4, 16),
        (76, "<8f", 1, 1, 1, 1, 0, 0, 0, 0),
        (108, "<f", offset),
        (112, "<f", 1.0),
        (123, "<B", 2),
        (254, "<h", 1),
        (280, "<12f", 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0),
        (344, "<4s", b"n+1\0"),
    ):
        struct.pack_into(form, header, place, *values)
    data = struct.pack(f"<{voxels**3}h", *(number % 900 for number in range(voxels**3)))
    return bytes(header) + bytes([bool(extension), 0, 0, 0]) + extension + data
