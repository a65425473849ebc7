"""The layout of the IXI collection."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from medtrans import Case, DataError
from medtrans.builtin.datasets.folders import FolderDataset, capped, entries, nothing_fits

__all__ = ["IXI"]

Modality: TypeAlias = Literal["t1", "t2", "pd", "mra"]

_FILE = re.compile(r"(?P<case>IXI\d{3}-(?:Guys|HH|IOP)-\d{4})-(?P<modality>T1|T2|PD|MRA)\.nii(?:\.gz)?")
_ONE_GRID = {"t2", "pd"}  # two echoes of one acquisition


class IXI(FolderDataset):
    """IXI: t1, t2, pd and mra of healthy adults from three hospitals, not registered to each other.

    Expects `IXI-T1/IXI002-Guys-0828-T1.nii.gz` and the same for T2, PD and MRA, each archive unpacked into a folder of
    its name or all into root itself. A case is what has all `modalities`; the others are left out, with a warning that
    counts them.

    Apart from T2 and PD, the images of a subject were taken one after the other on grids of their own and are only as
    well aligned as the subject lay still: register them before training on pairs. A warning says so once.

    Args:
        root: folder that holds `IXI-T1`, `IXI-T2` and so on.
        modalities: images every case must have.
    """

    expected = '"IXI-T1/IXI002-Guys-0828-T1.nii.gz" and the same for T2, PD and MRA'
    advice = "check that the archives are whole"

    def __init__(
        self, *, root: Path, modalities: Annotated[tuple[Modality, ...], Field(min_length=1)] = ("t1", "t2")
    ) -> None:
        self.root, self.required = root, tuple(dict.fromkeys(modalities))

    def found(self, root: Path) -> Sequence[Case]:
        found, twice = self._files(root)
        cases = [Case(name, name.partition("-")[0], images) for name, images in sorted(found.items())]
        absent = [name for name in self.required if all(name not in case.images for case in cases)]
        if absent:
            folders = ", ".join(f"IXI-{name.upper()}" for name in absent)
            advice = f"unpack {folders} there, or correct root or modalities"
            raise nothing_fits(root, self.expected, advice, what=f"no {' and no '.join(absent)}")
        if twice:
            raise DataError(*capped(twice))
        return cases

    def cases(self) -> Sequence[Case]:
        cases = super().cases()
        if not _ONE_GRID.issuperset(self.required):
            logging.getLogger("medtrans").warning(
                "the images of an IXI subject are not registered and lie on grids of their own; register them first"
            )
        return cases

    def _files(self, root: Path) -> tuple[dict[str, dict[str, Path]], list[str]]:
        """Images by case and modality, and what is there twice."""
        found: dict[str, dict[str, Path]] = {}
        twice = []
        for modality in self.required:
            for folder in (root / f"IXI-{modality.upper()}", root):
                for name in entries(folder):
                    fields = _FILE.fullmatch(name)
                    if fields is None or fields["modality"].lower() != modality:
                        continue
                    first = found.setdefault(fields["case"], {}).setdefault(modality, folder / name)
                    if first != folder / name:
                        twice.append(f'root: "{first}" and "{folder / name}" are the same image; remove one')
        return found, twice
