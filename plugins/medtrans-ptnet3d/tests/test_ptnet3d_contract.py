"""The package keeps the contracts that medtrans has with everybody's parts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import medtrans
from medtrans.testing import check_discriminator, check_generator, check_loss
from medtrans_ptnet3d.video_trunk import VideoTrunk


def test_the_generator_keeps_its_contract() -> None:
    assert all(verdict.outcome == "kept" for verdict in check_generator("ptnet3d:ptnet3d"))


def test_the_discriminator_keeps_its_contract() -> None:
    assert all(verdict.outcome == "kept" for verdict in check_discriminator("ptnet3d:multiscale_patchgan"))


def test_feature_matching_keeps_its_contract() -> None:
    check_loss("ptnet3d:feature_matching")


def test_the_video_loss_keeps_its_contract_without_weights() -> None:
    check_loss("ptnet3d:video_perceptual")


@pytest.mark.slow
def test_the_video_loss_keeps_its_contract_with_weights(tmp_path: Path) -> None:
    torch.manual_seed(0)
    torch.save(VideoTrunk().state_dict(), tmp_path / "r3d_18.pth")
    check_loss("ptnet3d:video_perceptual", options={"weights": str(tmp_path / "r3d_18.pth")}, excused={})


def test_the_package_states_the_interface_it_was_written_for_and_lists_without_torch() -> None:
    code = "import sys, medtrans_ptnet3d; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    import medtrans_ptnet3d

    assert medtrans_ptnet3d.PLUGIN_API.partition(".")[0] == medtrans.PLUGIN_API.partition(".")[0]
