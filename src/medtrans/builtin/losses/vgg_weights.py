"""Owns where the weights of the VGG-19 trunk come from: torch's hub cache, one download, or a local file."""

from __future__ import annotations

import hashlib
import http.client
import logging
from pathlib import Path

import torch

from medtrans import ConfigError, SetupError, read_weights
from medtrans.builtin.losses.vgg import VGG19

__all__ = ["fill", "load_weights"]

URL = "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth"
HASH_PREFIX = "dcbb9e9d"
"""The file's SHA-256 begins so; torchvision's file names carry it."""

log = logging.getLogger("medtrans")


def load_weights(trunk: VGG19, weights: str, *, owner: str = "perceptual loss") -> None:
    """Fill the trunk.

    Args:
        trunk: freshly made.
        weights: `imagenet` for torchvision's VGG19 IMAGENET1K_V1, `random` to leave the trunk as it was made, or the
            path of a file with torchvision's names, `.safetensors` or what `torch.save` writes.
        owner: who compares features by it, for messages.

    Raises:
        ConfigError: the path names no file.
        SetupError: the ImageNet file is not there and cannot be had; a file is broken or of another network.
    """
    if weights == "random":
        log.warning(
            "%s: weights: random compares features of an untrained network: it trains, but it is not "
            "perceptual and its values mean nothing beside those of weights: imagenet",
            owner,
        )
        return
    if weights == "imagenet":
        fill(trunk, imagenet_file(owner))
        return
    file = Path(weights).expanduser()
    if not file.is_file():
        raise ConfigError(f"{owner}: weights {weights!r} is neither 'imagenet' nor 'random', and there is no such file")
    fill(trunk, file)


def imagenet_file(owner: str) -> Path:
    """torchvision's file in torch's hub cache, downloaded if it is not there, its hash checked in either case."""
    file = Path(torch.hub.get_dir()) / "checkpoints" / URL.rpartition("/")[2]
    if not file.is_file():
        log.info("%s: downloading %s (548 MB) to %s", owner, URL, file)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(URL, str(file), hash_prefix=HASH_PREFIX, progress=False)
        # RuntimeError is how torch reports a download with another hash.
        except (OSError, RuntimeError, http.client.HTTPException) as error:
            raise SetupError(f"{owner}: no ImageNet weights of VGG-19: {error}. {how_to_get(file)}") from error
    with file.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if not found.startswith(HASH_PREFIX):
        raise SetupError(
            f"{owner}: {file} is damaged or another file: its SHA-256 begins with {found[:8]}, expected "
            f"{HASH_PREFIX}. Delete it. {how_to_get(file)}"
        )
    return file


def how_to_get(file: Path) -> str:
    """What a user without a network can do."""
    return (
        f"Fetch {URL} (SHA-256 begins with {HASH_PREFIX}) on a machine with a network and put it at {file}; or give "
        "the path of a local copy as `weights`; or set `weights: random`, which trains but is not perceptual; or "
        "take it out"
    )


def fill(trunk: VGG19, file: Path) -> None:
    """Copy the tensors that the trunk has out of a file; a file may hold more, such as a classifier."""
    network = type(trunk).__name__.replace("VGG", "VGG-")
    trunk.load_state_dict(read_weights(file, trunk, f"torchvision's {network}"))
