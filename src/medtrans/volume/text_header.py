"""Text headers of images: fields by name, whole numbers and numbers in them, and the file their voxels are in."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from medtrans.errors import DataError
from medtrans.volume.affine import affine_fault
from medtrans.volume.header import ImageHeader

__all__ = ["LARGEST_HEADER", "RAS_OF_LPS", "Described", "Fields"]


LARGEST_HEADER = 2**18
"""Bytes in which a header must end; what writers put into comments and keys of their own fits many times."""

RAS_OF_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""World positions right, anterior, superior from those left, posterior, superior."""

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?")
_WHOLE = re.compile(r"\d{1,12}")


@dataclass(frozen=True, eq=False)
class Described:
    """What a sound text header says.

    Args:
        layout: shape, type and place; the offset counts in `data`.
        data: the file with the voxels: the header's own, or one beside it.
        packing: how its voxels are compressed, all to the end of the file.
        fields: which fields say how many bytes the voxels take.
    """

    layout: ImageHeader
    data: Path
    packing: Literal["zlib", "gzip"] | None
    fields: str


class Fields:
    """The fields of a header, and what is found wrong with them.

    Args:
        path: of the file.
        values: by name.
        begin: bytes before the voxels, where they follow the header.
    """

    def __init__(self, path: Path, values: Mapping[str, str], begin: int) -> None:
        self.path = path
        self.values = values
        self.begin = begin
        self.faults: list[str] = []

    def fault(self, name: str, expected: str, advice: str = "Export the scan again") -> None:
        """Say what was found in a field, what was expected and what to do."""
        text = self.values.get(name, "")
        found = repr(text if len(text) <= 60 else f"{text[:57]}...") if name in self.values else "none"
        self.faults.append(f"{name}: found {found}, expected {expected}. {advice}.")

    def one_of(self, name: str, known: Mapping[str, Any], expected: str, advice: str) -> Any:
        """What the field's text stands for, in any case of letters; None and a fault where it is unknown."""
        text = self.values.get(name, "").lower()
        if text in known:
            return known[text]
        self.fault(name, expected, advice)
        return None

    def shape(self, name: str, axes: str) -> tuple[int, int, int] | None:
        """Three sides of at least 2 voxels; the field `axes` says how many there are."""
        words = self.values.get(name, "").split()
        if self.values.get(axes, "") != "3":
            self.fault(axes, "3: one 3-D volume", "Extract one volume; medtrans is for 3-D")
        elif len(words) != 3 or not all(_WHOLE.fullmatch(word) for word in words):
            self.fault(name, "three whole numbers")
        elif min(int(word) for word in words) < 2:
            self.fault(name, "at least 2 voxels a side", "Exclude it: medtrans is for 3-D")
        else:
            i, j, k = (int(word) for word in words)
            return i, j, k
        return None

    def numbers(self, name: str, count: int, text: str | None = None) -> np.ndarray | None:
        """So many finite numbers, from the field or from `text` made of it."""
        words = (self.values.get(name, "") if text is None else text).split()
        if len(words) == count and all(_NUMBER.fullmatch(word) for word in words):
            found = np.array([float(word) for word in words])
            if np.isfinite(found).all():
                return found
        self.fault(name, f"{count} finite numbers")
        return None

    def neutral(self, name: str, harmless: Sequence[str], advice: str) -> None:
        """A field that may be missing, and must not say more than that all is as usual."""
        if name in self.values and self.values[name].lower() not in harmless:
            self.fault(name, harmless[0], advice)

    def beside(self, name: str, otherwise: str = "") -> Path | None:
        """The file in the header's own folder that the field names; None and a fault where it names another."""
        text = self.values[name]
        if not text or text.startswith((".", "LIST")) or re.search(r"[/\\:*?%<>|\"\x00-\x1f\x7f\ud800-\udfff]", text):
            self.fault(name, f"{otherwise}the plain name of one file in the same folder", "Convert it to one file")
        elif text == self.path.name:
            self.fault(name, f"{otherwise}another file than the header", "Convert it to one file")
        else:
            return self.path.with_name(text)
        return None

    def affine(self, name: str, affine: np.ndarray) -> np.ndarray:
        """The affine, with a fault where it places nothing."""
        if fault := affine_fault(affine):
            self.faults.append(f"{name}: {fault}. Export the scan again.")
        return affine

    def described(
        self,
        shape: tuple[int, int, int] | None,
        stored: np.dtype[Any] | None,
        data: Path | None,
        placement: tuple[np.ndarray, tuple[str, ...]],
        packing: Literal["zlib", "gzip"] | None,
        said_by: str,
    ) -> Described:
        """All that was found together.

        Raises:
            DataError: the faults.
        """
        if self.faults or shape is None or stored is None or data is None:
            raise DataError(*(f"{self.path}: {fault}" for fault in self.faults))
        affine, notes = placement
        layout = ImageHeader(shape, stored, self.begin if data == self.path else 0, affine, notes=notes)
        return Described(layout, data, packing, said_by)
