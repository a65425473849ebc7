"""An export on disk: weights, settings and a card in one folder, every file of it verified before it is used."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from medtrans._version import __version__
from medtrans.errors import DataError
from medtrans.utils.files import write_json, write_text

__all__ = ["CARD", "KEYS", "SETTINGS", "Exported", "is_export", "read_export", "write_export"]


KEYS = (
    "seed", "source", "target", "reading", "preprocess", "patch", "method", "generator", "discriminator", "inference",
    "versions",
)  # fmt: skip
"""What translating needs of a config; an export holds nothing else of it."""

CARD = "README.md"
SETTINGS = "model.yaml"
_INTENSITIES = "intensities.json"
_MANIFEST = "manifest.json"
_KIND = "medtrans export"
_FORMAT = 1
_WEIGHTS = re.compile(r"[A-Za-z][A-Za-z0-9_]*\.safetensors")
_LARGEST_TEXT = 2**22

Numbers: TypeAlias = Mapping[str, Mapping[str, float]]
Learned: TypeAlias = Mapping[str, Mapping[str, list[float]]]


@dataclass(frozen=True)
class Exported:
    """A verified export.

    Args:
        folder: where it is.
        learned: what the scalings learnt from training cases.
        target_numbers: in which fitted targets are written.
        backgrounds: by target, what lies outside the box that was kept, in [0, 1]; none in exports of 0.1.
        masked: whether training images were scaled inside masks.
        networks: names of the networks whose weights are there.
    """

    folder: Path
    learned: Learned
    target_numbers: Numbers
    backgrounds: Mapping[str, float]
    masked: bool
    networks: tuple[str, ...]

    @property
    def settings(self) -> Path:
        """The part of the run's config that translating needs."""
        return self.folder / SETTINGS

    def weights(self) -> dict[str, dict[str, Tensor]]:
        """The weights by network, on the host.

        Raises:
            DataError: a file is not safetensors.
        """
        try:
            return {name: load_file(self.folder / f"{name}.safetensors") for name in self.networks}
        except (SafetensorError, OSError) as error:
            raise DataError(f"{self.folder}: weights cannot be read ({error}); copy the export again") from error


def is_export(folder: Path) -> bool:
    """Whether a folder looks like an export rather than a run."""
    return (folder / _MANIFEST).exists() and (folder / SETTINGS).exists()


def write_export(
    folder: Path,
    *,
    settings: Mapping[str, Any],
    card: str,
    learned: Learned,
    target_numbers: Numbers,
    backgrounds: Mapping[str, float],
    masked: bool,
    networks: Mapping[str, Mapping[str, Tensor]],
) -> None:
    """Write an export's files into an empty folder, the manifest last.

    `settings` are the entries of a saved config under `KEYS`, `networks` weights by network; the others are as in
    `Exported`.

    Raises:
        OSError: the disk is full or may not be written.
    """
    write_text(folder / SETTINGS, yaml.safe_dump(dict(settings), sort_keys=False, allow_unicode=True, width=120))
    write_text(folder / CARD, card)
    intensities = {"learned": learned, "target_numbers": target_numbers, "backgrounds": backgrounds, "masked": masked}
    write_json(folder / _INTENSITIES, intensities)
    for name, weights in networks.items():
        # safetensors refuses tensors that are not contiguous or that share memory.
        plain = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in weights.items()}
        save_file(plain, folder / f"{name}.safetensors", metadata={"medtrans": __version__})
    files = sorted(folder.iterdir())
    manifest = {
        "kind": _KIND,
        "format": _FORMAT,
        "medtrans": __version__,
        "sha256": {path.name: _digest(path) for path in files},
        "bytes": {path.name: path.stat().st_size for path in files},
    }
    write_json(folder / _MANIFEST, {**manifest, "self": _digest_text(manifest)})


def read_export(folder: Path) -> Exported:
    """Open an export after every file was hashed.

    Hidden files, such as a version control's, are passed over; whatever else the manifest does not name is refused.

    Raises:
        DataError: with all that is missing, damaged, added or of another kind.
    """
    manifest = _manifest(folder)
    faults = _file_faults(folder, manifest["sha256"], manifest["bytes"])
    if faults:
        raise DataError(*faults, f"{folder}: the export is damaged or was changed; copy it again")
    try:
        unknown = set(yaml.safe_load(_text(folder / SETTINGS))) - set(KEYS)
        numbers = json.loads(_text(folder / _INTENSITIES))
        learned = {
            name: {key: _finite(*values) for key, values in own.items()} for name, own in numbers["learned"].items()
        }
        written = {
            name: dict(zip(own, _finite(*own.values()), strict=True)) for name, own in numbers["target_numbers"].items()
        }
        outside = dict(numbers.get("backgrounds", {}))
        backgrounds = dict(zip(outside, _finite(*outside.values()), strict=True))
        masked = bool(numbers["masked"])
    except (yaml.YAMLError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise DataError(f"{folder}: {SETTINGS} or {_INTENSITIES} cannot be read ({type(error).__name__})") from error
    if unknown:
        raise DataError(f"{folder / SETTINGS}: found {', '.join(sorted(map(str, unknown)))}, which no export holds")
    weights = tuple(name.removesuffix(".safetensors") for name in manifest["sha256"] if name.endswith(".safetensors"))
    return Exported(folder, learned, written, backgrounds, masked, weights)


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads(_text(folder / _MANIFEST))
        stated = manifest.pop("self")
        sound = stated == _digest_text(manifest)
        kind, version, names = manifest["kind"], manifest["format"], dict(manifest["sha256"])
        dict(manifest["bytes"])
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise DataError(f"{folder / _MANIFEST}: is missing or damaged ({type(error).__name__})") from error
    if not sound:
        raise DataError(f"{folder / _MANIFEST}: checksum does not match: the file is damaged; copy the export again")
    if (kind, version) != (_KIND, _FORMAT):
        raise DataError(f"{folder / _MANIFEST}: found {kind!r} {version!r}, expected {_KIND!r} {_FORMAT}")
    odd = [name for name in names if name not in (SETTINGS, CARD, _INTENSITIES) and not _WEIGHTS.fullmatch(name)]
    missing = {SETTINGS, CARD, _INTENSITIES} - set(names)
    if odd or missing or len(names) < 4:
        raise DataError(f"{folder / _MANIFEST}: names other files than an export has: {sorted(odd) or sorted(missing)}")
    return manifest


def _file_faults(folder: Path, hashes: Mapping[str, str], sizes: Mapping[str, int]) -> list[str]:
    faults = []
    for name, expected in hashes.items():
        path = folder / name
        if path.is_symlink():
            faults.append(f"{path}: is a link; an export holds the files themselves")
        elif not path.is_file():
            faults.append(f"{path}: is missing")
        elif path.stat().st_size != sizes.get(name) or _digest(path) != expected:
            faults.append(f"{path}: checksum does not match")
    known = {*hashes, _MANIFEST}
    added = [path for path in sorted(folder.iterdir()) if path.name not in known and not path.name.startswith(".")]
    return faults + [f"{path}: was not exported; take it out" for path in added]


def _finite(*values: Any) -> list[float]:
    if not all(isinstance(value, int | float) and math.isfinite(value) for value in values):
        raise ValueError("not finite numbers")
    return [float(value) for value in values]


def _text(path: Path) -> str:
    if path.is_symlink() or path.stat().st_size > _LARGEST_TEXT:
        raise ValueError("a link or larger than any export's")
    return path.read_text(encoding="utf-8")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest_text(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
