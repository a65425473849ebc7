"""Folders of empty files with the names of real collections: datasets look at names only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from medtrans.errors import DataError
from medtrans.plugins.hookspecs import Component
from medtrans.plugins.interfaces import Case, Dataset
from medtrans.plugins.options import check_options


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def names_of(case: Case) -> dict[str, str]:
    """The file names of a case by modality."""
    return {modality: Path(image).name for modality, image in case.images.items()}


def fault_of(dataset: Dataset) -> str:
    """What listing the cases is refused with."""
    with pytest.raises(DataError) as caught:
        dataset.cases()
    return str(caught.value)


def configured(factory: type[Dataset], options: dict[str, Any]) -> Dataset:
    """The dataset as a config would make it."""
    checked, faults = check_options(Component("it", factory), "dataset", options)
    assert not faults
    return factory(**checked)
