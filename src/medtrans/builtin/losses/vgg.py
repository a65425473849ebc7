"""Frozen VGG trunks whose features perceptual losses and distances compare, and their weights."""

from __future__ import annotations

import hashlib
import http.client
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal, Self, get_args

import torch
from torch import Tensor, nn

from medtrans import ConfigError, SetupError, read_weights

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "VGG16", "VGG19", "Tap", "fill", "load_weights", "sha256_of"]

Tap = Literal[
    "relu1_1", "relu1_2", "relu2_1", "relu2_2", "relu3_1", "relu3_2", "relu3_3", "relu3_4",
    "relu4_1", "relu4_2", "relu4_3", "relu4_4", "relu5_1", "relu5_2", "relu5_3", "relu5_4",
]  # fmt: skip
"""Names of the activations: stage, then convolution within the stage."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""What the colours of images in [0, 1] are normalised by before the trunks see them."""

WIDTHS = (64, 128, 256, 512, 512)
"""Channels of the convolutions of each stage; a max-pooling stands between stages."""


class VGG19(nn.Module):
    """The convolutional part of VGG-19 (Simonyan and Zisserman 2015), frozen, cut behind the last tap.

    Parameters have the names that torchvision's files give them (`features.N.weight`). They start from a fixed random
    state of their own: the global one is neither read nor changed.

    Args:
        taps: activations to return.

    Attributes:
        known: the activations there are, in the order of the layers.
        smallest_side: of an image, so that all poolings leave something.

    Shapes:
        images `(n, 3, h, w)`, normalised as ImageNet's; each tap `(n, channels, h / 2^stage, w / 2^stage)`.

    Raises:
        ValueError: no taps, unknown ones, or one twice.
    """

    known: ClassVar[tuple[str, ...]] = get_args(Tap)

    def __init__(self, taps: Sequence[str]) -> None:
        super().__init__()
        known = self.known
        if not taps or len(set(taps)) != len(taps) or not set(taps) <= set(known):
            raise ValueError(
                f"{type(self).__name__}: taps {tuple(taps)} must be different names out of {', '.join(known)}"
            )
        self.taps: dict[str, int] = {}
        layers: list[nn.Module] = []
        generator = torch.Generator().manual_seed(0)
        before, stage = 3, "1"
        for name in known[: max(map(known.index, taps)) + 1]:
            if name[4] != stage:
                stage = name[4]
                layers.append(nn.MaxPool2d(2))
            width = WIDTHS[int(stage) - 1]
            layers += [random_conv(before, width, generator), nn.ReLU(inplace=True)]
            self.taps[name] = len(layers) - 1
            before = width
        self.taps = {name: self.taps[name] for name in taps}
        self.features = nn.Sequential(*layers)
        self.smallest_side = 2 ** (int(stage) - 1)
        self.requires_grad_(requires_grad=False)
        self.eval()

    def train(self, mode: bool = True) -> Self:
        # Frozen: it stays in eval mode whatever its owner does.
        return super().train(mode=False)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        found: dict[int, Tensor] = {}
        for index, layer in enumerate(self.features):
            images = layer(images)
            if index in self.taps.values():
                found[index] = images
        return tuple(found[index] for index in self.taps.values())


class VGG16(VGG19):
    """The same of VGG-16, which has three convolutions in each of the last three stages instead of four."""

    known: ClassVar[tuple[str, ...]] = tuple(name for name in VGG19.known if name[4] < "3" or not name.endswith("_4"))


def random_conv(in_channels: int, out_channels: int, generator: torch.Generator) -> nn.Conv2d:
    """A 3^2 convolution whose weights keep the size of what passes through many of them with ReLU (He et al. 2015)."""
    # Made without storage first: torch's own initialisation would draw from the global random state.
    conv = nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, device="meta").to_empty(device="cpu")
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu", generator=generator)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv


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
    found = sha256_of(file)
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


def sha256_of(file: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
