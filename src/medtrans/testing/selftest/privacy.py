"""The check that what a scanner wrote about a patient does not travel into a prediction."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any, cast

import nibabel
import numpy as np
from nibabel.nifti1 import Nifti1Extension

from medtrans.inference.prediction import write_translation
from medtrans.testing.selftest.identity import identity_translator
from medtrans.volume import Volume

__all__ = ["check"]

_FIELDS = ("descrip", "db_name", "aux_file", "intent_name")
_EXTENSIONS = (4, 6, 44)  # AFNI, comment, PSIR
_CANARY = "CanaryPatient"


def check(folder: Path) -> tuple[bool, str]:
    """Plant a name in every text of a header, translate, and look for it in all that was written."""
    home = folder / f"{_CANARY}Folder"
    home.mkdir()
    image: Any = nibabel.Nifti1Image(np.arange(1728, dtype=np.int16).reshape(12, 12, 12) % 900, np.eye(4))  # type: ignore[no-untyped-call]  # nibabel leaves it untyped
    image.set_sform(np.eye(4), 1)
    image.set_qform(np.eye(4), 1)
    for field in _FIELDS:
        image.header[field] = f"{_CANARY}{field}"[:16].encode()
    for code in _EXTENSIONS:
        image.header.extensions.append(Nifti1Extension(code, f"{_CANARY}{code}".encode()))
    nibabel.save(image, home / f"{_CANARY}.nii.gz")
    translator = identity_translator(folder, window=(0.0, 1000.0), crop="none")
    translated = cast("Volume", translator.translate(home / f"{_CANARY}.nii.gz"))
    written = write_translation(translator, "ct", translated, folder / "out" / "case.nii.gz")
    found = [path.name for path in written.parent.iterdir() if _CANARY.encode() in _content(path)]
    planted = len(_FIELDS) + len(_EXTENSIONS)
    here = gzip.decompress((home / f"{_CANARY}.nii.gz").read_bytes()).count(_CANARY.encode())
    figure = f"{planted} names planted, {here} in the scan, {len(found)} files with one after translation"
    return not found and here == planted, figure


def _content(path: Path) -> bytes:
    content = path.read_bytes()
    return gzip.decompress(content) if path.name.endswith(".gz") else content
