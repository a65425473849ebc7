"""The hostile files: what configs, images, tables, weights, checkpoints, exports and caches may be made to hold.

Each would leave a mark, a file that `corpus` is given the name of, if anything ran or followed it.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import io
import json
import os
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.helpers.nifti_corpus import nifti

Put = Callable[[Path], Path]
"""Puts a file into a folder, beside what is sound there, and gives the path to hand over."""

CONFIG = """\
output_dir: {folder}/run
dataset: {{name: phantom}}
source: [t1]
target: [t2]
preprocess: {{intensity: {{t1: {{name: percentile}}, t2: {{name: percentile}}}}}}
"""
_MHA = (
    "ObjectType = Image\nNDims = 3\nDimSize = 4 4 4\nElementSpacing = 1 1 1\nElementType = MET_SHORT\n"
    "ElementDataFile = "
)
_NRRD = (
    "NRRD0005\ntype: short\ndimension: 3\nspace: left-posterior-superior\nsizes: 4 4 4\n"
    "space directions: (1,0,0) (0,1,0) (0,0,1)\nspace origin: (0,0,0)\nendian: little\nencoding: raw\ndata file: "
)
_ALIASES = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(letter)}: &{chr(letter)} [{', '.join([f'*{chr(letter - 1)}'] * 10)}]\n" for letter in range(98, 107)
)
_NESTED = "[" * 200_000


@dataclass(frozen=True)
class Hostile:
    """One file that means harm: what it tries and how it comes in; not `refused` where it may be taken as mere data."""

    label: str
    route: str
    put: Put
    refused: bool = True


def corpus(mark: str) -> list[Hostile]:
    """Every hostile file; a cache entry that is refused is made again, so that its reader sees no error."""
    touch = f"touch {mark}"
    run, evaluate, execute = _call("posix", "system", touch), *_python(mark)
    tables: dict[tuple[str, str], dict[str, Put]] = {
        ("config", "refused"): {label: configured(text.replace("MARK", mark)) for label, text in _CONFIGS.items()}
        | {
            "code beside it": _code_beside(mark),
            "aliases that multiply": at("config.yaml", _ALIASES),
            "a nesting without end": at("config.yaml", "a: " + "[" * 4_000),
        },
        ("image", "refused"): {
            "a pickle called scan.nii": at("scan.nii", run),
            "a pickle in gzip": at("scan.nii.gz", gzip.compress(run)),
            "objects of numpy called scan.nii": at("scan.nii", _npy(run)),
            "an archive that climbs": at("scan.nii.gz", _zip({f"../{Path(mark).name}": b"x"})),
            "a stream that swells": at("scan.nii.gz", _bomb()),
            "a header that states 10^13 voxels": at("scan.nii", nifti(dim=(3, *[30_000] * 3, *[1] * 4))),
            "an offset beyond the file": at("scan.nii", nifti(vox_offset=1e9)),
            "an offset before the file": at("scan.nii", nifti(vox_offset=-1e9)),
            "an extension longer than the file": at(
                "scan.nii", nifti(extension=b"\xff\xff\xff\x7f\x06\0\0\0" + mark.encode(), vox_offset=352)
            ),
            "a device by the name of a scan": _device,
            "a pipe by the name of a scan": _pipe,
            "voxels in /etc/passwd": at("scan.mhd", _MHA + "/etc/passwd\n"),
            "voxels above the folder": at("scan.mhd", _MHA + "../../../etc/passwd\n"),
            "voxels in files of a pattern": at("scan.mhd", _MHA + "%s%s%s%n.raw 1 4 1\n"),
            "voxels in files of a list": at("scan.mhd", _MHA + "LIST\n/etc/passwd\n/etc/passwd\n"),
            "voxels at an address": at("scan.mhd", _MHA + "http://127.0.0.1:9/voxels.raw\n"),
            "voxels of NRRD in /etc/passwd": at("scan.nrrd", _NRRD + "/etc/passwd\n\n"),
            "voxels of NRRD above the folder": at("scan.nrrd", _NRRD + "../../etc/passwd\n\n"),
            "voxels of NRRD in a list": at("scan.nrrd", _NRRD + "LIST\n/etc/passwd\n\n"),
        },
        ("image", "taken"): {
            f"a name: {name}": at(name.replace("MARK", Path(mark).name), nifti())
            for name in ("$(touch MARK).nii", "`touch MARK`.nii", "; touch MARK;.nii", "|touch MARK|.nii", "-rf.nii")
        },
        ("table", "refused"): {
            "an image that is a command": listed(f"s1,|{touch}"),
            "an image at an address": listed("s1,http://127.0.0.1:9/scan.nii"),
            "an image that is a device": listed("s1,/dev/zero"),
            "an image with a null in its name": listed("s1,scan\0.nii"),
            "a cell without end": listed("s1," + "x" * 200_000),
            "JSON nested without end": at("cases.json", _NESTED),
            "JSON that names a class": at("cases.json", json.dumps([{"py/function": "os.system", "py/reduce": touch}])),
        },
        ("table", "taken"): {
            "a formula for a name": listed(f"\"=cmd|' /C touch {mark}'!A0\",scan.nii"),
            "a name that climbs": listed(f"../../../s1,../../{mark},scan.nii", "subject,case,t1"),
            "a name that is absolute": listed(f"{mark},{mark},scan.nii", "subject,case,t1"),
        },
        ("split", "refused"): {
            "a split file nested without end": at("split.json", _NESTED),
            "a split file that is a pickle": at("split.json", run),
        },
        ("weights", "refused"): {
            "a pickle called vgg19.pth": at("vgg19.pth", run),
            "torch's archive with os.system": at("vgg19.pth", _torch(run)),
            "torch's archive with eval": at("vgg19.pth", _torch(evaluate)),
            "torch's archive with exec": at("vgg19.pth", _torch(execute)),
            "an archive of weights that climbs": at("vgg19.pth", _torch(b"}.", {f"../../{Path(mark).name}": b"x"})),
            "a script for torch to run": at(
                "vgg19.pth",
                _torch(b"}.", {"archive/constants.pkl": b").", "archive/code/__torch__.py": b"import os\n"}),
            ),
            "a pickle called vgg19.safetensors": at("vgg19.safetensors", run),
            "a header of 2^60 bytes": at("vgg19.safetensors", _safetensors({}, length=2**60)),
            "tensors beyond the file": at("vgg19.safetensors", _safetensors({"a": ([2**40], [0, 2**42])})),
        },
        ("checkpoint", "refused"): {
            "a state that is a pickle": in_checkpoint("state.pt", run),
            "a state with os.system": in_checkpoint("state.pt", _torch(run)),
            "a state with nt.system": in_checkpoint("state.pt", _torch(_call("nt", "system", touch))),
            "a state with eval": in_checkpoint("state.pt", _torch(evaluate)),
            "a state that loads another": in_checkpoint("state.pt", _torch(_call("torch", "load", mark))),
            "a state of objects of numpy": in_checkpoint("state.pt", _npy(run)),
            "weights that are a pickle": in_checkpoint("generator.safetensors", run),
            "weights that overlap": in_checkpoint(
                "generator.safetensors", _safetensors({name: ([2], [0, 8]) for name in ("a", "b")}, bytes(8))
            ),
            "a manifest of files above": _manifest_names("../../../etc/passwd"),
            "a manifest of an absolute file": _manifest_names("/etc/passwd"),
            "a mark that climbs": beside("best.json", json.dumps({"checkpoint": "../../../tmp"})),
            "a mark that is absolute": beside("best.json", json.dumps({"checkpoint": "/etc"})),
            "a mark nested without end": beside("best.json", _NESTED),
        },
        ("export", "refused"): {
            "settings with a tag": in_export("model.yaml", f"seed: !!python/object/apply:os.system ['touch {mark}']\n"),
            "settings that extend a file": in_export("model.yaml", "extends: [/etc/passwd]\n", added=True),
            "settings with a _target_": in_export("model.yaml", "_target_: os.system\n", added=True),
            "exported weights that are a pickle": in_export("generator.safetensors", run),
            "exported weights that are a link": in_export("generator.safetensors", None),
            "code among what was exported": in_export("model.py", f"open({mark!r}, 'w')"),
            "intensities nested without end": in_export("intensities.json", '{"learned": ' + "[" * 99_999),
        },
        ("cache", "taken"): {
            "prepared arrays that are pickles": _in_cache(_npy(run)),
            "prepared arrays that evaluate": _in_cache(_npy(evaluate)),
            "prepared cases that lie elsewhere": _cache_is_link,
        },
    }
    return [
        Hostile(label, route, put, refused=end == "refused")
        for (route, end), puts in tables.items()
        for label, put in puts.items()
    ]


_CONFIGS = {
    "a tag that calls os.system": "seed: !!python/object/apply:os.system ['touch MARK']\n",
    "a tag that makes a process": "seed: !!python/object/new:subprocess.Popen [[touch, MARK]]\n",
    "a tag that names a function": "seed: !!python/name:os.system\n",
    "a tag that imports": "seed: !!python/module:antigravity\n",
    "a tag of one's own": 'seed: !exec \'open("MARK", "w")\'\n',
    "a _target_ in a slot": "generator: {_target_: os.system, command: touch MARK}\n",
    "a _target_ among options": "generator: {name: mdaunet, options: {_target_: os.system, _args_: ['touch MARK']}}\n",
    "a _target_ at the top": "_target_: os.system\n",
    "a reference to the environment": "generator: {name: '${oc.env:HOME}'}\n",
    "a reference that decodes": "seed: ${oc.decode:'1'}\n",
    "a resolver that evaluates": 'seed: ${eval:\'open("MARK", "w")\'}\n',
    "a reference that makes a component": "seed: ${oc.create:{_target_: os.system}}\n",
    "a component by its import path": "generator: {name: 'builtin:os.system'}\n",
    "a component by module and attribute": "generator: {name: 'subprocess:Popen'}\n",
    "a component that is source": 'losses: {x: {name: \'builtin:__import__("os").system("touch MARK")\'}}\n',
    "an option that is source": (
        'generator: {name: mdaunet, options: {width: \'$__import__("os").system("touch MARK")\'}}\n'
    ),
    "a template in a name": "names: '{{ cycler.__init__.__globals__.os.popen(\"touch MARK\") }}'\n",
    "a file plugin by its path": "generator: {name: './helper.py:net'}\n",
    "what it extends is no config": "extends: [/etc/passwd]\n",
    "what it extends is a device": "extends: [/dev/zero]\n",
}


def at(name: str, content: bytes | str) -> Put:
    """A file alone."""

    def put(folder: Path) -> Path:
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return folder / name

    return put


def beside(name: str, content: str) -> Put:
    """A file beside what is sound, the folder of which is handed over."""
    return lambda folder: at(name, content)(folder).parent


def configured(text: str) -> Put:
    """A sound config with more behind it."""
    return lambda folder: at("config.yaml", CONFIG.format(folder=folder) + text)(folder)


def listed(row: str, columns: str = "subject,t1") -> Put:
    """A table of one row beside a sound scan."""

    return lambda folder: at("cases.csv", f"{columns}\n{row}\n")(at("scan.nii", nifti())(folder).parent)


def in_checkpoint(name: str, content: bytes) -> Put:
    """A checkpoint of which one file is hostile and the manifest fits it."""

    def put(folder: Path) -> Path:
        step = folder / "step_00000001"
        at(name, content)(step)
        _sign(step, list(_manifest(step)["sha256"]))
        return folder

    return put


def in_export(name: str, content: bytes | str | None, *, added: bool = False) -> Put:
    """An export of which one file is hostile, longer than it was, or a link, and the manifest fits it."""

    def put(folder: Path) -> Path:
        if content is None:
            (folder / name).unlink()
            (folder / name).symlink_to("/etc/passwd")
        else:
            at(name, (folder / name).read_text() + str(content) if added else content)(folder)
        _sign(folder, [one.name for one in sorted(folder.iterdir()) if one.name != "manifest.json"])
        return folder

    return put


def _manifest(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    return found


def _sign(folder: Path, names: list[str], **more: str) -> None:
    """Make a manifest fit the files; `more` names files that are said to be as another is."""
    manifest = _manifest(folder)
    contents = {name: (folder / more.get(name, name)).read_bytes() for name in [*names, *more]}
    manifest["sha256"] = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    manifest["bytes"] = {name: len(content) for name, content in contents.items()}
    manifest.pop("self", None)
    manifest["self"] = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def _manifest_names(name: str) -> Put:
    def put(folder: Path) -> Path:
        step = folder / "step_00000001"
        _sign(step, list(_manifest(step)["sha256"]), **{name: "state.pt"})
        return folder

    return put


def _code_beside(mark: str) -> Put:
    """Modules with well-known names beside a config, and a plugin of the name it asks for."""

    def put(folder: Path) -> Path:
        for name in ("yaml", "medtrans", "sitecustomize", "omegaconf", "helper"):
            at(f"{name}.py", f"open({mark!r}, 'w')\n")(folder)
        return configured("generator: {name: 'helper:net'}\n")(folder)

    return put


def _device(folder: Path) -> Path:
    (folder / "scan.nii").symlink_to("/dev/zero")
    return folder / "scan.nii"


def _pipe(folder: Path) -> Path:
    os.mkfifo(folder / "scan.nii")
    return folder / "scan.nii"


def _in_cache(content: bytes) -> Put:
    """Every prepared array of a cache, with sizes and hashes that fit."""

    def put(folder: Path) -> Path:
        for entry in folder.glob("*/entry.json"):
            facts = json.loads(entry.read_text(encoding="utf-8"))["facts"]
            for name in facts["files"]:
                (entry.parent / name).unlink()
                (entry.parent / name).write_bytes(content)
                facts["files"][name] = [len(content), hashlib.blake2b(content, digest_size=16).hexdigest()]
            digest = hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=16).hexdigest()
            entry.write_text(json.dumps({"facts": facts, "blake2b": digest}), encoding="utf-8")
        return folder

    return put


def _cache_is_link(folder: Path) -> Path:
    outside = folder.parent / "beside"
    outside.mkdir(exist_ok=True)
    for entry in list(folder.iterdir()):
        shutil.rmtree(entry)
        entry.symlink_to(outside)
    return folder


def _call(module: str, name: str, argument: str) -> bytes:
    """A pickle that calls a function with a text."""
    return f"c{module}\n{name}\n(S'{argument}'\ntR.".encode()


def _python(mark: str) -> tuple[bytes, bytes]:
    """Pickles that give Python source to `eval` and `exec`."""
    source = f'open("{mark}", "w")'
    return _call("builtins", "eval", source), _call("builtins", "exec", source)


def _zip(entries: dict[str, bytes]) -> bytes:
    """An archive with entries of any name, uncompressed."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        for name, content in entries.items():
            packed.writestr(zipfile.ZipInfo(name), content)
    return buffer.getvalue()


def _torch(pickled: bytes, more: dict[str, bytes] | None = None) -> bytes:
    """What torch writes, with a pickle of one's own in it."""
    return _zip({"archive/data.pkl": pickled, "archive/byteorder": b"little", "archive/version": b"3\n"} | (more or {}))


def _npy(pickled: bytes) -> bytes:
    """A numpy file of objects, which is a pickle behind a header."""
    header = "{'descr': '|O', 'fortran_order': False, 'shape': (2,), }"
    header += " " * (63 - (10 + len(header)) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + pickled


def _safetensors(
    tensors: dict[str, tuple[list[int], list[int]]], data: bytes = b"", length: int | None = None
) -> bytes:
    """A safetensors file of float32 with shapes, offsets and a length of header as they are stated."""
    stated = {name: {"dtype": "F32", "shape": one, "data_offsets": two} for name, (one, two) in tensors.items()}
    text = json.dumps(stated).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


@functools.cache
def _bomb() -> bytes:
    """A compressed scan with 64 MiB of zeros behind it, a thousandth of which are really there."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return gzip.compress(nifti(), mtime=0) + packer.compress(bytes(2**26)) + packer.flush()
