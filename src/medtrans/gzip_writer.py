"""Owns gzip streams of voxels, packed by what is in them."""

from __future__ import annotations

import struct
import zlib
from typing import BinaryIO

__all__ = ["GzipWriter"]

_BLOCK = 2**18
_SAMPLE = 2**14
_HEADER = b"\x1f\x8b\x08\0\0\0\0\0\4\xff"  # no name and no time, so that the same bytes give the same file
_RAW = -zlib.MAX_WBITS


class GzipWriter:
    """Packs what is written into one gzip stream that any program unpacks; how it was cut into writes does not show.

    Each block of 256 KiB is packed by zlib's first level in one of two ways, whichever makes a sample of it smaller:
    with all repetitions, or with runs alone. Where voxels hardly repeat, as in what a network makes, the second is as
    small in 0.6 of the time. Repetitions further apart than the 16 KiB of the sample may be missed.

    Args:
        file: open for writing; left open.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._waiting = bytearray()
        self._checksum = self._size = 0
        file.write(_HEADER)

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes."""
        self._waiting += data
        while len(self._waiting) >= _BLOCK:
            self._pack(bytes(self._waiting[:_BLOCK]))
            del self._waiting[:_BLOCK]

    def close(self) -> None:
        """End the stream."""
        self._pack(bytes(self._waiting))
        self._file.write(zlib.compressobj(1, zlib.DEFLATED, _RAW).flush())
        self._file.write(struct.pack("<II", self._checksum, self._size % 2**32))

    def _pack(self, block: bytes) -> None:
        middle = max(0, len(block) - _SAMPLE) // 2
        sample = block[middle : middle + _SAMPLE]
        way = min(zlib.Z_RLE, zlib.Z_DEFAULT_STRATEGY, key=lambda way: len(_packed(sample, way)))
        self._file.write(_packed(block, way))
        self._checksum = zlib.crc32(block, self._checksum)
        self._size += len(block)


def _packed(block: bytes, way: int) -> bytes:
    """A part of a deflate stream that ends with a whole byte and needs nothing of what came before it."""
    deflate = zlib.compressobj(1, zlib.DEFLATED, _RAW, strategy=way)
    return deflate.compress(block) + deflate.flush(zlib.Z_FULL_FLUSH)
