"""Owns the hostile files: what configs, images, tables, weights, checkpoints, exports and caches may be made to hold,
and the way each would come into medtrans."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias

from medtrans.selftest import hostile_writers as on_disk
from medtrans.selftest.payloads import (
    archive,
    bomb,
    builtin_pickle,
    npy,
    pickle_of,
    safetensors,
    scan,
    torch_archive,
)

__all__ = ["HOSTILE", "Hostile", "Route"]

Route: TypeAlias = Literal["config", "image", "table", "split", "weights", "checkpoint", "export", "cache"]

Write: TypeAlias = Callable[[Path, str], Path]
"""`(folder, mark) -> the path to hand over`; the folder holds what is sound but for this file, where that is needed."""


@dataclass(frozen=True)
class Hostile:
    """One file that means harm.

    Args:
        label: what it tries.
        route: how it comes in.
        write: makes it.
        refused: False where it may be taken as harmless data.
    """

    label: str
    route: Route
    write: Write
    refused: bool = True


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
_ROW = "subject,t1\n"

_CONFIGS: dict[str, Write] = {
    "a tag that calls os.system": partial(on_disk.config, "seed: !!python/object/apply:os.system ['touch MARK']\n"),
    "a tag that makes a process": partial(
        on_disk.config, "seed: !!python/object/new:subprocess.Popen [[touch, MARK]]\n"
    ),
    "a tag that names a function": partial(on_disk.config, "seed: !!python/name:os.system\n"),
    "a tag that imports": partial(on_disk.config, "seed: !!python/module:antigravity\n"),
    "a tag of one's own": partial(on_disk.config, 'seed: !exec \'open("MARK", "w")\'\n'),
    "a _target_ in a slot": partial(on_disk.config, "generator: {_target_: os.system, command: touch MARK}\n"),
    "a _target_ among options": partial(
        on_disk.config, "generator: {name: mdaunet, options: {_target_: os.system, _args_: ['touch MARK']}}\n"
    ),
    "a _target_ at the top": partial(on_disk.config, "_target_: os.system\n"),
    "a reference to the environment": partial(on_disk.config, "generator: {name: '${oc.env:HOME}'}\n"),
    "a reference that decodes": partial(on_disk.config, "seed: ${oc.decode:'1'}\n"),
    "a resolver that evaluates": partial(on_disk.config, 'seed: ${eval:\'open("MARK", "w")\'}\n'),
    "a reference that makes a component": partial(on_disk.config, "seed: ${oc.create:{_target_: os.system}}\n"),
    "a component by its import path": partial(on_disk.config, "generator: {name: 'builtin:os.system'}\n"),
    "a component by module and attribute": partial(on_disk.config, "generator: {name: 'subprocess:Popen'}\n"),
    "a component that is source": partial(
        on_disk.config, 'losses: {x: {name: \'builtin:__import__("os").system("touch MARK")\'}}\n'
    ),
    "an option that is source": partial(
        on_disk.config, 'generator: {name: mdaunet, options: {width: \'$__import__("os").system("touch MARK")\'}}\n'
    ),
    "a template in a name": partial(
        on_disk.config, "names: '{{ cycler.__init__.__globals__.os.popen(\"touch MARK\") }}'\n"
    ),
    "a file plugin by its path": partial(on_disk.config, "generator: {name: './helper.py:net'}\n"),
    "code beside it": on_disk.code_beside,
    "what it extends is no config": partial(on_disk.config, "extends: [/etc/passwd]\n"),
    "what it extends is a device": partial(on_disk.config, "extends: [/dev/zero]\n"),
    "aliases that multiply": partial(on_disk.whole, _ALIASES),
    "a nesting without end": partial(on_disk.whole, "a: " + "[" * 4_000),
}

_IMAGES: dict[str, Write] = {
    "a pickle called scan.nii": partial(on_disk.file, "scan.nii", pickle_of),
    "a pickle in gzip": partial(on_disk.file, "scan.nii.gz", lambda mark: gzip.compress(pickle_of(mark))),
    "objects of numpy called scan.nii": partial(on_disk.file, "scan.nii", lambda mark: npy(pickle_of(mark))),
    "an archive that climbs": partial(
        on_disk.file, "scan.nii.gz", lambda mark: archive({f"../{Path(mark).name}": b"x"})
    ),
    "a stream that swells": partial(on_disk.file, "scan.nii.gz", lambda mark: bomb(2**26)),
    "a header that states 10^13 voxels": partial(on_disk.file, "scan.nii", lambda mark: scan(side=30_000)),
    "an offset beyond the file": partial(on_disk.file, "scan.nii", lambda mark: scan(offset=1e9)),
    "an offset before the file": partial(on_disk.file, "scan.nii", lambda mark: scan(offset=-1e9)),
    "an extension longer than the file": partial(
        on_disk.file, "scan.nii", lambda mark: scan(extension=b"\xff\xff\xff\x7f\x06\0\0\0" + mark.encode())
    ),
    "a device by the name of a scan": partial(on_disk.link, "scan.nii", "/dev/zero"),
    "a pipe by the name of a scan": on_disk.pipe,
    "voxels in /etc/passwd": partial(on_disk.elsewhere, "scan.mhd", _MHA + "/etc/passwd\n"),
    "voxels above the folder": partial(on_disk.elsewhere, "scan.mhd", _MHA + "../../../etc/passwd\n"),
    "voxels in files of a pattern": partial(on_disk.elsewhere, "scan.mhd", _MHA + "%s%s%s%n.raw 1 4 1\n"),
    "voxels in files of a list": partial(on_disk.elsewhere, "scan.mhd", _MHA + "LIST\n/etc/passwd\n/etc/passwd\n"),
    "voxels at an address": partial(on_disk.elsewhere, "scan.mhd", _MHA + "http://127.0.0.1:9/voxels.raw\n"),
    "voxels of NRRD in /etc/passwd": partial(on_disk.elsewhere, "scan.nrrd", _NRRD + "/etc/passwd\n\n"),
    "voxels of NRRD above the folder": partial(on_disk.elsewhere, "scan.nrrd", _NRRD + "../../etc/passwd\n\n"),
    "voxels of NRRD in a list": partial(on_disk.elsewhere, "scan.nrrd", _NRRD + "LIST\n/etc/passwd\n\n"),
}
_HARMLESS_NAMES = ("$(touch MARK).nii", "`touch MARK`.nii", "; touch MARK;.nii", "|touch MARK|.nii", "-rf.nii")

_TABLES: dict[str, Write] = {
    "an image that is a command": partial(on_disk.table, _ROW + "s1,|touch MARK\n"),
    "an image at an address": partial(on_disk.table, _ROW + "s1,http://127.0.0.1:9/scan.nii\n"),
    "an image that is a device": partial(on_disk.table, _ROW + "s1,/dev/zero\n"),
    "an image with a null in its name": partial(on_disk.table, _ROW + "s1,scan\0.nii\n"),
    "a cell without end": partial(on_disk.table, _ROW + "s1," + "x" * 200_000 + "\n"),
    "JSON nested without end": partial(on_disk.json_table, "[" * 200_000),
    "JSON that names a class": partial(
        on_disk.json_table, '[{"py/object": "os.system", "py/reduce": [{"py/function": "os.system"}, ["touch MARK"]]}]'
    ),
}
_HARMLESS_TABLES: dict[str, Write] = {
    "a formula for a name": partial(on_disk.table, _ROW + "\"=cmd|' /C touch MARK'!A0\",scan.nii\n"),
    "a name that climbs": partial(on_disk.table, "subject,case,t1\n../../../s1,../../MARK,scan.nii\n"),
    "a name that is absolute": partial(on_disk.table, "subject,case,t1\nMARK,MARK,scan.nii\n"),
}

_SPLITS: dict[str, Write] = {
    "a split file nested without end": partial(on_disk.nested, "split.json"),
    "a split file that is a pickle": partial(on_disk.file, "split.json", pickle_of),
}

_WEIGHTS: dict[str, Write] = {
    "a pickle called vgg19.pth": partial(on_disk.file, "vgg19.pth", pickle_of),
    "torch's archive with os.system": partial(on_disk.file, "vgg19.pth", lambda mark: torch_archive(pickle_of(mark))),
    "torch's archive with eval": partial(
        on_disk.file, "vgg19.pth", lambda mark: torch_archive(builtin_pickle(mark, "eval"))
    ),
    "torch's archive with exec": partial(
        on_disk.file, "vgg19.pth", lambda mark: torch_archive(builtin_pickle(mark, "exec"))
    ),
    "an archive of weights that climbs": partial(
        on_disk.file, "vgg19.pth", lambda mark: torch_archive(b"}.", {f"../../{Path(mark).name}": b"x"})
    ),
    "a script for torch to run": partial(
        on_disk.file,
        "vgg19.pth",
        lambda mark: torch_archive(
            b"}.", {"archive/constants.pkl": b").", "archive/code/__torch__.py": b"import os\n"}
        ),
    ),
    "a pickle called vgg19.safetensors": partial(on_disk.file, "vgg19.safetensors", pickle_of),
    "a header of 2^60 bytes": partial(on_disk.file, "vgg19.safetensors", lambda mark: safetensors({}, length=2**60)),
    "tensors beyond the file": partial(
        on_disk.file,
        "vgg19.safetensors",
        lambda mark: safetensors({"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}),
    ),
}

_CHECKPOINTS: dict[str, Write] = {
    "a state that is a pickle": partial(on_disk.in_checkpoint, "state.pt", pickle_of),
    "a state with os.system": partial(on_disk.in_checkpoint, "state.pt", lambda mark: torch_archive(pickle_of(mark))),
    "a state with nt.system": partial(
        on_disk.in_checkpoint, "state.pt", lambda mark: torch_archive(pickle_of(mark, "nt"))
    ),
    "a state with eval": partial(
        on_disk.in_checkpoint, "state.pt", lambda mark: torch_archive(builtin_pickle(mark, "eval"))
    ),
    "a state that loads another": partial(
        on_disk.in_checkpoint, "state.pt", lambda mark: torch_archive(f"ctorch\nload\n(S'{mark}'\ntR.".encode())
    ),
    "a state of objects of numpy": partial(on_disk.in_checkpoint, "state.pt", lambda mark: npy(pickle_of(mark))),
    "weights that are a pickle": partial(on_disk.in_checkpoint, "generator.safetensors", pickle_of),
    "weights that overlap": partial(
        on_disk.in_checkpoint,
        "generator.safetensors",
        lambda mark: safetensors(
            {name: {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} for name in ("a", "b")}, bytes(8)
        ),
    ),
    "a manifest of files above": partial(on_disk.manifest_names, "../../../etc/passwd"),
    "a manifest of an absolute file": partial(on_disk.manifest_names, "/etc/passwd"),
    "a mark that climbs": partial(on_disk.mark_points, "../../../tmp"),
    "a mark that is absolute": partial(on_disk.mark_points, "/etc"),
    "a mark nested without end": partial(on_disk.nested, "best.json"),
}

_EXPORTS: dict[str, Write] = {
    "settings with a tag": partial(
        on_disk.in_export,
        "model.yaml",
        lambda mark: f"seed: !!python/object/apply:os.system ['touch {mark}']\n".encode(),
    ),
    "settings that extend a file": partial(on_disk.export_says, "extends", ["/etc/passwd"]),
    "settings with a _target_": partial(on_disk.export_says, "_target_", "os.system"),
    "exported weights that are a pickle": partial(on_disk.in_export, "generator.safetensors", pickle_of),
    "exported weights that are a link": on_disk.export_links,
    "code among what was exported": partial(
        on_disk.in_export, "model.py", lambda mark: f"open({mark!r}, 'w')".encode()
    ),
    "intensities nested without end": partial(
        on_disk.in_export, "intensities.json", lambda mark: b'{"learned": ' + b"[" * 99_999
    ),
}

_CACHES: dict[str, Write] = {
    "prepared arrays that are pickles": partial(on_disk.in_cache, lambda mark: npy(pickle_of(mark))),
    "prepared arrays that evaluate": partial(on_disk.in_cache, lambda mark: npy(builtin_pickle(mark, "eval"))),
    "prepared cases that lie elsewhere": on_disk.cache_is_link,
}

HOSTILE: tuple[Hostile, ...] = (
    *(Hostile(label, "config", write) for label, write in _CONFIGS.items()),
    *(Hostile(label, "image", write) for label, write in _IMAGES.items()),
    *(Hostile(f"a name: {name}", "image", partial(on_disk.named, name), refused=False) for name in _HARMLESS_NAMES),
    *(Hostile(label, "table", write) for label, write in _TABLES.items()),
    *(Hostile(label, "table", write, refused=False) for label, write in _HARMLESS_TABLES.items()),
    *(Hostile(label, "split", write) for label, write in _SPLITS.items()),
    *(Hostile(label, "weights", write) for label, write in _WEIGHTS.items()),
    *(Hostile(label, "checkpoint", write) for label, write in _CHECKPOINTS.items()),
    *(Hostile(label, "export", write) for label, write in _EXPORTS.items()),
    *(Hostile(label, "cache", write, refused=False) for label, write in _CACHES.items()),
)
"""The corpus; a cache entry that is refused is made again, so that its reader sees no error."""
