"""The package keeps the contracts that medtrans has with everybody's parts."""

from __future__ import annotations

import subprocess
import sys

import pytest

import medtrans
from medtrans.testing import check_discriminator, check_generator
from medtrans_resvit import SMALL, TRANSFORMER


@pytest.mark.parametrize("name", ["resvit:resvit", "resvit:res_cnn"])
def test_the_generators_keep_their_contract(name: str) -> None:
    assert all(verdict.outcome == "kept" for verdict in check_generator(name))


def test_resvit_keeps_it_with_every_other_way_to_slice() -> None:
    other = {"context": 3, "plane": "sagittal", "img_size": [32, 48], "fit": "resize", "inference_norm": "batch_stats"}
    check_generator("resvit:resvit", options={**SMALL, **TRANSFORMER, **other}, patch_size=(2, 32, 32))


@pytest.mark.parametrize("name", ["resvit:patchgan", "resvit:pixelgan"])
def test_the_discriminators_keep_their_contract(name: str) -> None:
    assert all(verdict.outcome == "kept" for verdict in check_discriminator(name))


def test_the_package_states_the_interface_it_was_written_for_and_lists_without_torch() -> None:
    code = "import sys, medtrans_resvit; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    import medtrans_resvit

    assert medtrans_resvit.PLUGIN_API.partition(".")[0] == medtrans.PLUGIN_API.partition(".")[0]
