"""The bytes of image files (there, readable, whole, as many as declared) and the finite physical values they hold."""

from __future__ import annotations

import difflib
import gzip
import math
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from medtrans.errors import DataError, SetupError
from medtrans.utils.memory import require_memory
from medtrans.volume.header import ImageHeader, ReadingRules

NIFTI_ENDINGS = (".nii.gz", ".nii")
ITK_ENDINGS = (".mha", ".mhd", ".nrrd")
IMAGE_ENDINGS = (*NIFTI_ENDINGS, *ITK_ENDINGS)
"""What the name of a readable image ends in, in whatever case; the longest that fits counts."""

CHUNK = 2**22
PADDING = 4096
"""Bytes of zeros that may follow the voxels, as block-wise writers leave them."""

_LARGEST_COMPRESSED = 16 * 2**30  # bytes a compressed file may declare: a few MB of gzip can unfold to fill any memory
_DEFLATE_RATIO = 1032  # deflate spends at least 2 bits on 258 bytes


def is_image_file(path: Path | str, endings: Sequence[str] = IMAGE_ENDINGS) -> bool:
    """Whether a name has one of the endings and is not hidden; nothing is looked at on the disk."""
    name = Path(path).name
    return name.lower().endswith(tuple(endings)) and not name.startswith(".")


def stem_of(path: Path | str) -> str:
    """The name of an image file without its folder and its ending; the whole name where it has no image's ending."""
    name = Path(path).name
    ending = next((ending for ending in IMAGE_ENDINGS if name.lower().endswith(ending)), "")
    return name[: len(name) - len(ending)]


def is_compressed(path: Path) -> bool:
    """Whether the name says gzip."""
    return path.name.lower().endswith(".gz")


def check_ending(path: Path, endings: Sequence[str]) -> None:
    """Refuse a name with none of the endings, by a DataError that lists them."""
    if not path.name.lower().endswith(tuple(endings)):
        *others, last = endings
        raise DataError(
            f"{path}: found the ending {path.suffix!r}, expected {', '.join(others)} or {last}; convert it to NIfTI."
        )


def check_unambiguous(path: Path) -> None:
    """Refuse a name beside which the same one lies with the other ending, `.nii` or `.nii.gz`, by a DataError."""
    sibling = path.with_name(path.name[:-3] if is_compressed(path) else path.name + ".gz")
    if sibling.exists():
        raise DataError(
            f"{path}: {sibling.name} lies beside it, and tools differ in which of the two they open; "
            "expected one of them. Remove or rename the other."
        )


def check_present(path: Path) -> None:
    """Refuse what is no file, or an empty one, by a DataError with similar names in its folder."""
    if path.is_file():
        if path.stat().st_size == 0:
            raise DataError(f"{path}: the file is empty (0 bytes). Copy it again.")
        return
    if path.exists():
        raise DataError(f"{path}: found a folder or a device, expected a file.")
    if not path.parent.is_dir():
        raise DataError(f"{path}: no such file, since there is no folder {path.parent}. Correct the path.")
    near = difflib.get_close_matches(path.name, sorted(entry.name for entry in path.parent.iterdir()))
    raise DataError(
        f"{path}: no such file. " + (f"Similar names there: {', '.join(near)}." if near else "Correct the path.")
    )


@contextmanager
def reading_errors(path: Path) -> Iterator[None]:
    """Name the file that the block finds cut off, damaged or closed (DataError), or too large (SetupError)."""
    try:
        yield
    except EOFError as error:
        raise DataError(
            f"{path}: the gzip stream stops before its end mark: the copy is incomplete. Copy it again."
        ) from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: the gzip stream is damaged ({error}). Copy it again from its source.") from error
    except MemoryError as error:
        raise SetupError(
            f"{path}: its voxels do not fit into this machine's memory. Use a machine with more."
        ) from error
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror or error}). Check the path and its permissions."
        ) from error


@contextmanager
def open_nifti(path: Path) -> Iterator[BinaryIO]:
    """The bytes of a `.nii` or `.nii.gz` file, decompressed where its name says so.

    Raises:
        DataError: the file is missing, not alone under its name, no regular file, empty, or compressed otherwise than
            its name says.
    """
    check_present(path)
    check_unambiguous(path)
    with path.open("rb") as file:
        _check_compression(path, cast("Any", file).peek(2)[:2])
        if is_compressed(path):
            with gzip.GzipFile(fileobj=file, mode="rb") as stream:
                yield cast("BinaryIO", stream)
        else:
            yield file


def _check_compression(path: Path, first: bytes) -> None:
    if (first == b"\x1f\x8b") != is_compressed(path):
        found, ending = ("plain", ".nii") if is_compressed(path) else ("gzip-compressed", ".nii.gz")
        raise DataError(
            f"{path}: found {found} data, expected what the name says. Rename it to end in {ending}, or copy it again."
        )


def compression_faults(fields: str, declared: int, packed: int, advice: str) -> Iterator[str]:
    """What is wrong with `packed` bytes of deflate that are to unfold to `declared` bytes, as `fields` say."""
    if declared > packed * _DEFLATE_RATIO:
        yield (
            f"{fields}: found {declared:,} bytes declared, expected at most {packed * _DEFLATE_RATIO:,}, which is all "
            f"that {packed:,} bytes of gzip can hold. The copy is incomplete or the header damaged; copy it again."
        )
    elif declared > _LARGEST_COMPRESSED:
        yield (
            f"{fields}: found {declared:,} bytes declared, expected at most {_LARGEST_COMPRESSED:,} where they are "
            f"compressed. Where the image is that large, {advice}."
        )


def length_faults(fields: str, layout: ImageHeader, size: int) -> Iterator[str]:
    """What is wrong with a plain file of `size` bytes that is to end with the voxels of `layout`."""
    if size < layout.end:
        yield truncation_fault(max(0, size - layout.offset), layout)
    elif size > layout.end + PADDING:
        yield surplus_fault(fields, size - layout.end, layout)


def truncation_fault(found: int, layout: ImageHeader) -> str:
    """That there are fewer voxels than declared."""
    return (
        f"the file ends after {found:,} of {layout.voxel_bytes:,} voxel bytes: the copy is incomplete. Copy it again."
    )


def surplus_fault(fields: str, found: int, layout: ImageHeader) -> str:
    """That more than zeros follow the voxels."""
    return (
        f"{fields}: found {found:,} more bytes than the {layout.voxel_bytes:,} declared for voxels, expected none: "
        "header and voxels do not belong together. Export the scan again."
    )


def stored_voxels(where: object, chunks: Iterable[bytes], layout: ImageHeader, fields: str) -> np.ndarray:
    """The voxels as stored, `(i, j, k)` in the file's own type and order.

    Args:
        where: what a message begins with.
        chunks: the bytes from the first voxel to the end of the file, decompressed. All are taken, also when the
            voxels are complete: only the end of a compressed stream has its checksum.
        layout: what the header says.
        fields: of the header, which say how many bytes there are.

    Raises:
        DataError: there are fewer or more bytes than declared.
        EOFError: the stream is cut off after the voxels, in its checksum.
        SetupError: they take more memory than is free, which is seen before any is taken.
    """
    # A few MB of gzip may hold any number of zeros. They are taken as stored, as handed out, and as booleans that say
    # which are finite.
    each = layout.stored.itemsize + layout.dtype.itemsize + 1
    require_memory(math.prod(layout.shape) * each, f"{where}: reading {' × '.join(map(str, layout.shape))} voxels")
    voxels = np.empty(layout.voxel_bytes // layout.stored.itemsize, layout.stored)
    view, count = voxels.view(np.uint8).data, 0
    try:
        for chunk in chunks:
            own = max(0, len(view) - count)
            view[count : count + len(chunk)] = chunk[:own]
            count += len(chunk)
            if count > len(view) + PADDING or any(chunk[own:]):
                raise DataError(f"{where}: {surplus_fault(fields, count - len(view), layout)}")
    except EOFError:  # a stream cut off: how many voxels came tells more, if any are lacking
        if count >= len(view):
            raise
    if count < len(view):
        raise DataError(f"{where}: {truncation_fault(count, layout)}")
    return voxels.reshape(layout.shape, order="F")


def physical_values(
    path: Path, stored: np.ndarray, layout: ImageHeader, rules: ReadingRules
) -> tuple[np.ndarray, tuple[str, ...]]:
    """The voxels in physical values, in memory order i, j, k, and the rule that was needed for them.

    Raises:
        DataError: they are not finite and no rule fills them, or they lie beyond float32.
    """
    if layout.dtype.kind != "f":
        return np.ascontiguousarray(stored, layout.dtype), ()
    values = np.empty(layout.shape, np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is counted below
        for i in range(layout.shape[0]):  # slice by slice: float64 of the whole volume would double the memory
            values[i] = stored[i].astype(np.float64) * layout.slope + layout.inter if layout.scaled else stored[i]
    notes: tuple[str, ...] = ()
    if rules.fill_not_finite is not None:
        broken = ~np.isfinite(stored)
        if count := int(broken.sum()):
            values[broken] = rules.fill_not_finite
            stored = np.where(broken, 0, stored)
            found = f"{count:,} of {values.size:,} voxels are NaN or infinite"
            notes = (f"{found}: set to {rules.fill_not_finite:g} (reading.fill_not_finite)",)
    if fault := finite_fault(values, stored):
        advice = (
            " or set reading.fill_not_finite (--reading fill_not_finite=0) to a value that takes their place"
            if "beyond" not in fault
            else ""
        )
        raise DataError(f"{path}: {fault}. Fix or exclude the image{advice}.")
    return values, notes


def finite_fault(values: np.ndarray, origin: np.ndarray) -> str | None:
    """How many float32 `values` are not finite, and whether they were so in their `origin`; None where all are."""
    finite = np.isfinite(values)
    if finite.all():
        return None
    counts = {
        "are NaN": np.isnan(origin).sum(),
        "are infinite": np.isinf(origin).sum(),
        "lie beyond float32": (~finite & np.isfinite(origin)).sum(),
    }
    found = " and ".join(f"{count:,} of {values.size:,} voxels {what}" for what, count in counts.items() if count)
    return f"{found}, expected finite numbers"
