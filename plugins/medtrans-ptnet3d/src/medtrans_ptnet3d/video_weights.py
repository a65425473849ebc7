"""Where the video network's weights come from: a local file, read without running code."""

from __future__ import annotations

from pathlib import Path

import torch

import medtrans
from medtrans import ConfigError
from medtrans_ptnet3d.video_trunk import VideoTrunk

__all__ = ["trunk_from"]


def trunk_from(file: Path) -> VideoTrunk:
    """The trunk with the weights of a file that has torchvision's names; a classifier in it is left out.

    Raises:
        ConfigError: there is no such file.
        SetupError: it cannot be read, or is of another network; every tensor that is amiss is named.
    """
    file = file.expanduser()
    if not file.is_file():
        raise ConfigError(
            f"video_perceptual: no file at {file}; give the path of torchvision's r3d_18 weights (Kinetics-400), or "
            "null, which leaves the loss out"
        )
    # Made without storage: torch's own initialisation would draw from the global random state.
    with torch.device("meta"):
        trunk = VideoTrunk()
    trunk.load_state_dict(medtrans.read_weights(file, trunk, "torchvision's r3d_18"), assign=True)
    return trunk.requires_grad_(requires_grad=False)
