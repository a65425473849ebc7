"""Owns where the weights of the VGG-19 trunk come from: torch's hub cache, one download, or a local file."""

from __future__ import annotations

import hashlib
import http.client
import logging
import pickle
import struct
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from medtrans import ConfigError, SetupError
from medtrans.builtin.losses.vgg import VGG19

__all__ = ["load_weights"]

URL = "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth"
HASH_PREFIX = "dcbb9e9d"
"""The file's SHA-256 begins so; torchvision's file names carry it."""

UNREADABLE = (
    OSError,
    EOFError,
    RuntimeError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    struct.error,
    pickle.UnpicklingError,
    SafetensorError,
)
"""What the readers raise for bytes that are no weights: torch's restricted unpickler trips over them in many ways."""

log = logging.getLogger("medtrans")


def load_weights(trunk: VGG19, weights: str) -> None:
    """Fill the trunk.

    Args:
        trunk: freshly made.
        weights: `imagenet` for torchvision's VGG19 IMAGENET1K_V1, `random` to leave the trunk as it was made, or the
            path of a file with torchvision's names, `.safetensors` or what `torch.save` writes.

    Raises:
        ConfigError: the path names no file.
        SetupError: the ImageNet file is not there and cannot be had; a file is broken or of another network.
    """
    if weights == "random":
        log.warning(
            "perceptual loss: weights: random compares features of an untrained network: it trains, but it is not "
            "perceptual and its values mean nothing beside those of weights: imagenet"
        )
        return
    if weights == "imagenet":
        fill(trunk, imagenet_file())
        return
    file = Path(weights).expanduser()
    if not file.is_file():
        raise ConfigError(
            f"perceptual loss: weights {weights!r} is neither 'imagenet' nor 'random', and there is no such file"
        )
    fill(trunk, file)


def imagenet_file() -> Path:
    """torchvision's file in torch's hub cache, downloaded if it is not there, its hash checked in either case."""
    file = Path(torch.hub.get_dir()) / "checkpoints" / URL.rpartition("/")[2]
    if not file.is_file():
        log.info("perceptual loss: downloading %s (548 MB) to %s", URL, file)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(URL, str(file), hash_prefix=HASH_PREFIX, progress=False)
        # RuntimeError is how torch reports a download with another hash.
        except (OSError, RuntimeError, http.client.HTTPException) as error:
            raise SetupError(f"perceptual loss: no ImageNet weights of VGG-19: {error}. {how_to_get(file)}") from error
    with file.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if not found.startswith(HASH_PREFIX):
        raise SetupError(
            f"perceptual loss: {file} is damaged or another file: its SHA-256 begins with {found[:8]}, expected "
            f"{HASH_PREFIX}. Delete it. {how_to_get(file)}"
        )
    return file


def how_to_get(file: Path) -> str:
    """What a user without a network can do."""
    return (
        f"Fetch {URL} (SHA-256 begins with {HASH_PREFIX}) on a machine with a network and put it at {file}; or give "
        "the path of a local copy as `weights`; or set `weights: random`, which trains but is not perceptual; or "
        "take the loss out"
    )


def fill(trunk: VGG19, file: Path) -> None:
    """Copy the tensors that the trunk has out of a file; a file may hold more, such as a classifier."""
    found = read(file)
    faults = []
    for name, wanted in trunk.state_dict().items():
        tensor = found.get(name)
        if not isinstance(tensor, Tensor):
            faults.append(f"{file}: no tensor {name!r}; expected torchvision's VGG-19 with names such as that")
        elif tensor.shape != wanted.shape:
            faults.append(f"{file}: {name} has shape {tuple(tensor.shape)}, expected {tuple(wanted.shape)}")
    if faults:
        raise SetupError(*faults)
    trunk.load_state_dict({name: found[name] for name in trunk.state_dict()})


def read(file: Path) -> Mapping[str, Tensor]:
    """The tensors of a file, without running any code it may carry."""
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        found = torch.load(file, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        raise SetupError(f"{file}: cannot be read as network weights: {error}") from error
    if not isinstance(found, Mapping):
        raise SetupError(f"{file}: holds a {type(found).__name__}, expected a mapping of names to tensors")
    return found
