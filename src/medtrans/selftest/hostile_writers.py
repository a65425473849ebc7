"""Owns how a hostile file is put on disk: alone, or as one file of something that is sound but for it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import Any

from medtrans.selftest.payloads import scan

__all__ = [
    "cache_is_link",
    "code_beside",
    "config",
    "elsewhere",
    "export_links",
    "export_says",
    "file",
    "in_cache",
    "in_checkpoint",
    "in_export",
    "json_table",
    "link",
    "manifest_names",
    "mark_points",
    "named",
    "nested",
    "pipe",
    "resign_checkpoint",
    "resign_export",
    "sign",
    "table",
    "whole",
]

CONFIG = """\
output_dir: {folder}/run
dataset: {{name: phantom}}
source: [t1]
target: [t2]
preprocess: {{intensity: {{t1: {{name: percentile}}, t2: {{name: percentile}}}}}}
"""


def file(name: str, content: Callable[[str], bytes], folder: Path, mark: str) -> Path:
    path = folder / name
    path.write_bytes(content(mark))
    return path


def config(text: str, folder: Path, mark: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(CONFIG.format(folder=folder) + text.replace("MARK", mark), encoding="utf-8")
    return path


def whole(text: str, folder: Path, mark: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(text.replace("MARK", mark), encoding="utf-8")
    return path


def code_beside(folder: Path, mark: str) -> Path:
    """Modules with well-known names beside a config, and a plugin of the name it asks for."""
    for name in ("yaml", "medtrans", "sitecustomize", "omegaconf", "helper"):
        (folder / f"{name}.py").write_text(f"open({mark!r}, 'w')\n", encoding="utf-8")
    return config("generator: {name: 'helper:net'}\n", folder, mark)


def link(name: str, target: str, folder: Path, mark: str) -> Path:
    path = folder / name
    path.symlink_to(target)
    return path


def pipe(folder: Path, mark: str) -> Path:
    path = folder / "scan.nii"
    os.mkfifo(path)
    return path


def named(template: str, folder: Path, mark: str) -> Path:
    """A sound image whose name is a command."""
    path = folder / template.replace("MARK", Path(mark).name)
    path.write_bytes(scan())
    return path


def elsewhere(name: str, text: str, folder: Path, mark: str) -> Path:
    """A header that says its voxels lie in another file."""
    path = folder / name
    path.write_bytes(text.encode())
    return path


def table(rows: str, folder: Path, mark: str) -> Path:
    (folder / "scan.nii").write_bytes(scan())
    path = folder / "cases.csv"
    path.write_text(rows.replace("MARK", mark), encoding="utf-8", newline="")
    return path


def json_table(text: str, folder: Path, mark: str) -> Path:
    path = folder / "cases.json"
    path.write_text(text.replace("MARK", mark), encoding="utf-8")
    return path


def in_checkpoint(name: str, content: Callable[[str], bytes], folder: Path, mark: str) -> Path:
    """A sound checkpoint but for one file, with a manifest that fits it."""
    step = folder / "step_00000001"
    (step / name).write_bytes(content(mark))
    resign_checkpoint(step)
    return folder


def manifest_names(name: str, folder: Path, mark: str) -> Path:
    step = folder / "step_00000001"
    manifest = json.loads((step / "manifest.json").read_text(encoding="utf-8"))
    manifest["sha256"][name] = manifest["sha256"]["state.pt"]
    manifest["bytes"][name] = manifest["bytes"]["state.pt"]
    sign(step / "manifest.json", manifest)
    return folder


def nested(name: str, folder: Path, mark: str) -> Path:
    (folder / name).write_text("[" * 200_000, encoding="utf-8")
    return folder


def mark_points(target: str, folder: Path, mark: str) -> Path:
    (folder / "best.json").write_text(json.dumps({"checkpoint": target}), encoding="utf-8")
    return folder


def in_export(name: str, content: Callable[[str], bytes], folder: Path, mark: str) -> Path:
    (folder / name).write_bytes(content(mark))
    return resign_export(folder)


def export_says(key: str, value: Any, folder: Path, mark: str) -> Path:
    """An export whose settings hold one more key."""
    with (folder / "model.yaml").open("a", encoding="utf-8") as file:
        file.write(f"{key}: {json.dumps(value)}\n")
    return resign_export(folder)


def export_links(folder: Path, mark: str) -> Path:
    (folder / "generator.safetensors").unlink()
    (folder / "generator.safetensors").symlink_to("/etc/passwd")
    return resign_export(folder)


def in_cache(payload: Callable[[str], bytes], folder: Path, mark: str) -> Path:
    """Every prepared array of a cache made into a pickle, with sizes and hashes that fit."""
    for entry in folder.glob("*/entry.json"):
        facts = json.loads(entry.read_text(encoding="utf-8"))["facts"]
        for name in facts["files"]:
            content = payload(mark)
            (entry.parent / name).unlink()
            (entry.parent / name).write_bytes(content)
            facts["files"][name] = [len(content), blake2b(content, digest_size=16).hexdigest()]
        digest = blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=16).hexdigest()
        entry.write_text(json.dumps({"facts": facts, "blake2b": digest}), encoding="utf-8")
    return folder


def cache_is_link(folder: Path, mark: str) -> Path:
    outside = folder.parent / "beside"
    outside.mkdir(exist_ok=True)
    for entry in list(folder.iterdir()):
        shutil.rmtree(entry)
        entry.symlink_to(outside)
    return folder


def resign_checkpoint(step: Path) -> None:
    """Make a checkpoint's manifest fit its files."""
    manifest = json.loads((step / "manifest.json").read_text(encoding="utf-8"))
    for name in manifest["sha256"]:
        content = (step / name).read_bytes()
        manifest["sha256"][name], manifest["bytes"][name] = hashlib.sha256(content).hexdigest(), len(content)
    sign(step / "manifest.json", manifest)


def resign_export(folder: Path) -> Path:
    """Make an export's manifest fit its files."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    files = [one for one in sorted(folder.iterdir()) if one.is_file() and one != path]
    manifest["sha256"] = {one.name: hashlib.sha256(one.read_bytes()).hexdigest() for one in files}
    manifest["bytes"] = {one.name: one.stat().st_size for one in files}
    sign(path, manifest)
    return folder


def sign(path: Path, manifest: dict[str, Any]) -> None:
    manifest.pop("self", None)
    manifest["self"] = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps(manifest), encoding="utf-8")
