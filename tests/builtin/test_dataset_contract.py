"""What all datasets of files share: how a wrong root is told, options from a config, and links to nowhere."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from medtrans.builtin.datasets.paired_folders import PairedFolders
from medtrans.config.schema import FractionsSplit
from medtrans.data.cohort import build_cohort
from medtrans.errors import DataError
from medtrans.plugins.components import Component
from medtrans.plugins.interfaces import Dataset
from medtrans.plugins.options import check_options
from tests.builtin.trees import LAYOUTS, Layout, fault_of, touch

by_layout = pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.dataset.__name__)
known_layout = pytest.mark.parametrize("layout", LAYOUTS[1:], ids=lambda layout: layout.dataset.__name__)


def listing(layout: Layout, root: Path) -> Dataset:
    """The dataset as a config would make it."""
    checked, faults = check_options(Component("it", layout.dataset), "dataset", {"root": str(root), **layout.options})
    assert not faults
    return layout.dataset(**checked)


@by_layout
def test_options_come_from_a_config_and_a_case_has_what_lies_there(layout: Layout, tmp_path: Path) -> None:
    touch(tmp_path, *layout.files)
    (case,) = listing(layout, tmp_path).cases()
    images = dict(zip(layout.modalities, layout.files, strict=True))
    assert case.images == {modality: tmp_path / file for modality, file in images.items()}


@by_layout
def test_a_link_to_nowhere_is_a_missing_file_and_not_a_missing_case(
    layout: Layout, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    touch(tmp_path, *layout.files)
    (tmp_path / layout.files[1]).unlink()
    (tmp_path / layout.files[1]).symlink_to(tmp_path / "annex/object")
    source, target = layout.modalities
    everyone = FractionsSplit(train=1.0, validation=0.0, test=0.0)
    with caplog.at_level(logging.ERROR), pytest.raises(DataError, match=f"{target}: no such file"):
        build_cohort(listing(layout, tmp_path), everyone, source=[source], target=[target], seed=0)


@by_layout
def test_a_case_that_lacks_an_image_is_named_by_the_run_or_left_out(layout: Layout, tmp_path: Path) -> None:
    touch(tmp_path, *layout.files)
    (tmp_path / layout.files[1]).unlink()
    source, target = layout.modalities
    with pytest.raises(DataError):
        build_cohort(listing(layout, tmp_path), FractionsSplit(), source=[source], target=[target], seed=0)


@by_layout
def test_a_root_that_is_not_there_is_told(layout: Layout, tmp_path: Path) -> None:
    touch(tmp_path, "Data/readme")
    message = fault_of(listing(layout, tmp_path / "data2"))
    assert f'root: no such folder "{tmp_path / "data2"}"' in message
    if layout.dataset is not PairedFolders:
        assert f'"{tmp_path}" holds "Data"' in message
        assert layout.expected in message
        assert "there is no" in fault_of(listing(layout, tmp_path / "gone/too"))


@known_layout
def test_a_root_where_nothing_fits_is_told_with_what_is_there(layout: Layout, tmp_path: Path) -> None:
    touch(tmp_path, "archive.tar", *(f".hidden/{file}" for file in layout.files))
    message = fault_of(listing(layout, tmp_path))
    assert f'in "{tmp_path}" fits' in message
    assert layout.expected in message
    assert 'found "archive.tar"' in message
