"""Taking the transformer's first weights from a local file of ViT weights."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isqrt
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import zoom
from torch import Tensor, nn

from medtrans import ConfigError, SetupError
from medtrans_resvit.art import TransformerARTBlock
from medtrans_resvit.networks import ResViTNetwork
from medtrans_resvit.slices import Sides

__all__ = ["load_vit_weights"]

POSITIONS = "Transformer/posembed_input/pos_embedding"


@dataclass(frozen=True)
class _Entry:
    """Where a tensor stands in the file, and how it becomes ours."""

    name: str
    tensor: Tensor
    linear: bool = False

    def of(self, found: np.ndarray) -> np.ndarray:
        """The array in our order of axes: files hold input before output, and heads as an axis of their own."""
        if found.ndim == 4:
            return found.transpose(3, 2, 0, 1)
        if self.linear and self.tensor.ndim == 2:
            outputs, inputs = self.tensor.shape
            return found.reshape(inputs, outputs).T if found.size == self.tensor.numel() else found
        return found.reshape(-1) if self.tensor.ndim == 1 else found


def load_vit_weights(network: ResViTNetwork, file: Path) -> None:
    """Copy the transformer's layers, and the embedding and positions of every block that holds it, from a file.

    The file is a NumPy archive with the names of the published JAX weights. The position of the class token is left
    out; the table of the others, a square, is brought to the network's grid linearly. No code in the file is run.

    Raises:
        ConfigError: there is no such file.
        SetupError: it cannot be read, or lacks a tensor, or has one of another shape; all of them are named.
    """
    file = file.expanduser()
    if not file.is_file():
        raise ConfigError(
            f"vit_weights: no file at {file}; give the path of an .npz of ViT weights, or null to begin at random"
        )
    found = _read(file)
    faults: list[str] = []
    with torch.no_grad():
        for entry in _entries(network):
            _fill(entry.tensor, entry.name, None if entry.name not in found else entry.of(found[entry.name]), faults)
        for block in network.transformer_blocks():
            _fill(block.position, POSITIONS, _positions(found.get(POSITIONS), block), faults)
    if faults:
        raise SetupError(*(f"vit_weights: {file}: {fault}" for fault in dict.fromkeys(faults)))


def _read(file: Path) -> Mapping[str, np.ndarray]:
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            return {name: np.asarray(archive[name]) for name in archive.files}
    except (OSError, ValueError, EOFError, KeyError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        raise SetupError(f"vit_weights: {file}: cannot be read as a NumPy archive of weights: {error}") from error


def _fill(tensor: Tensor, name: str, found: np.ndarray | None, faults: list[str]) -> None:
    if found is None:
        faults.append(f"no tensor {name!r}; expected the names of the published ViT weights")
    elif found.shape != tuple(tensor.shape):
        faults.append(
            f"{name} has {found.size} numbers in the shape {found.shape}, the network's {tuple(tensor.shape)}; take "
            "weights that fit dim, heads, mlp_dim and embed_channels"
        )
    else:
        tensor.copy_(torch.from_numpy(np.array(found, dtype=np.float32)))


def _entries(network: ResViTNetwork) -> Iterator[_Entry]:
    for block in network.transformer_blocks():
        yield from _pair("embedding", block.embed)
    for index, layer in enumerate(network.encoder.all_layers()):
        prefix = f"Transformer/encoderblock_{index}"
        yield from _norm(f"{prefix}/LayerNorm_0", layer.attention_norm)
        yield from _norm(f"{prefix}/LayerNorm_2", layer.mlp_norm)
        for part in ("query", "key", "value", "out"):
            yield from _pair(f"{prefix}/MultiHeadDotProductAttention_1/{part}", getattr(layer.attention, part))
        yield from _pair(f"{prefix}/MlpBlock_3/Dense_0", layer.mlp.widen)
        yield from _pair(f"{prefix}/MlpBlock_3/Dense_1", layer.mlp.narrow)
    yield from _norm("Transformer/encoder_norm", network.encoder.norm)


def _pair(name: str, module: nn.Linear | nn.Conv2d) -> Iterator[_Entry]:
    yield _Entry(f"{name}/kernel", module.weight, linear=isinstance(module, nn.Linear))
    if module.bias is not None:
        yield _Entry(f"{name}/bias", module.bias)


def _norm(name: str, module: nn.LayerNorm) -> Iterator[_Entry]:
    yield _Entry(f"{name}/scale", module.weight)
    yield _Entry(f"{name}/bias", module.bias)


def _positions(found: np.ndarray | None, block: TransformerARTBlock) -> np.ndarray | None:
    if found is None or found.ndim != 3 or isqrt(found.shape[1] - 1) ** 2 != found.shape[1] - 1:
        return found
    side = isqrt(found.shape[1] - 1)
    table = found[0, 1:].reshape(side, side, -1)
    return _at(table, block.grid).reshape(1, -1, table.shape[-1])


def _at(table: np.ndarray, grid: Sides) -> np.ndarray:
    height, width = table.shape[:2]
    return np.asarray(zoom(table, (grid[0] / height, grid[1] / width, 1), order=1))
