"""Mutated files and what reading them may do; run as a program, since a reader may take the process with it.

`python -m tests.helpers.fuzzing KIND FIRST LAST FOLDER` prints the number of each case before it is read, and a line of
JSON for each fault. One number of a kind is always the same case, so that a find is made again by its number alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import signal
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from medtrans.errors import MedtransError
from medtrans.volume import ReadingRules, read, read_header
from tests.helpers.itk_corpus import metaimage, nrrd
from tests.helpers.nifti_corpus import BOTH_FORMS, VOXELS, header_fields, nifti, squeeze

__all__ = ["KINDS", "files_of_case"]

_MEMORY = 2 * 2**30
_SECONDS = 5
_LONGEST = 20_000  # characters of a fault
_RULES = (ReadingRules(), ReadingRules("sform", True, 0.0), ReadingRules("qform", True, -1.0))
_RAW = VOXELS.astype("<i2").tobytes(order="F")

_TOKENS = [
    "", "0", "-1", "1", "2", "nan", "inf", "-inf", "1e999", "1e-999", "9" * 30, "9" * 5000, "1_000", "0x10", "010",
    "1:30", "1.5", "True", "yes", "no", "null", "~", "x", "x" * 5000, " ", "\t", "\r", "\n", "\n\n", "\x00", "\x1b[2J",
    "é", "𝔘", "\u202e", "\\ud800", '"\\ud800"', "%s%n", "%d", "../../x", "/dev/zero", "/etc/passwd", "C:\\x",
    "http://x/y", "LIST", "LOCAL", "scan.raw", "{}", "[]", "[" * 3000, "{a: " * 600, "- " * 2000, "&a [*a, *a]", "*a",
    "!!python/object/apply:os.system [x]", "!!binary x", "${oc.env:HOME}", "???", "{name: l1}", "[1, 2, 3]", "[1, two]",
    "(1,0,0)", "none", "a: b", "a = b", ": ", ":=", "#", ",", ";", '"', "'", "train", "subject", "<<: *a",
]  # fmt: skip

_SPLITS = ("train", "train", "validation", "test")
_ROWS = [{"subject": f"s{n}", "split": split, "t1": f"t1_{n}.nii"} for n, split in enumerate(_SPLITS, 1)]
_CSV = "subject,split,t1\n" + "".join(f"{','.join(row.values())}\n" for row in _ROWS)
_JSON = json.dumps(_ROWS, indent=1)
_CONFIG = """\
output_dir: run
seed: 0
names: false
dataset: {name: phantom, options: {subjects: 5, size: [24, 24, 24]}}
source: [t1]
target: [t2]
split: {by: fractions, train: 0.6, validation: 0.2, test: 0.2}
reading: {trust: null, accept_unknown_space: false, fill_not_finite: null}
preprocess:
  spacing_mm: null
  crop: foreground
  intensity: {t1: {name: percentile}, t2: {name: percentile}}
patch: {size: [16, 16, 16], per_volume: 2, foreground: 0.1}
generator: {name: mdaunet, options: {preset: fast, width: 4, growth: [4, 4]}}
discriminator: {name: multires_unet, options: {width: 2, convs: 1}}
losses:
  l1: {weight: 1.0}
  relativistic: {weight: {start: 0, end: 1.0e-4, steps: 100}}
metrics: {psnr: {}, ssim: {}}
train: {steps: 4, batch: 2, best: psnr, schedule: {name: constant}, optimizer: {generator: {name: adam}}}
inference: {overlap: 0.25, blend: gaussian}
"""

Files = dict[str, bytes]


def _bytes_changed(rng: np.random.Generator, content: bytes, most: int = 3) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.integers(1, most + 1)):
        if not changed:
            break
        at = int(rng.integers(len(changed)))
        match rng.integers(5):
            case 0:
                changed[at] ^= 1 << int(rng.integers(8))
            case 1:
                changed[at] = int(rng.integers(256))
            case 2:
                del changed[at : at + int(rng.integers(1, 40))]
            case 3:
                changed[at:at] = rng.bytes(int(rng.integers(1, 20)))
            case _:
                del changed[at:]
    return bytes(changed)


def _text_changed(rng: np.random.Generator, text: str) -> str:
    lines = text.splitlines(keepends=True)
    for _ in range(rng.integers(1, 4)):
        at, other = rng.integers(len(lines), size=2)
        match rng.integers(6):
            case 0:
                lines.insert(at, lines[other])
            case 1 if len(lines) > 1:
                del lines[at]
            case 2:
                lines[at] = _token(rng) + "\n"
            case _:
                words = list(re.finditer(r"[^\s,:={}\[\]()]+", lines[at])) or [re.match("", lines[at])]
                word = words[int(rng.integers(len(words)))]
                lines[at] = lines[at][: word.start()] + _token(rng) + lines[at][word.end() :]
    return "".join(lines)


def _token(rng: np.random.Generator) -> str:
    return _TOKENS[int(rng.integers(len(_TOKENS)))]


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _nifti(rng: np.random.Generator) -> bytes:
    version = int(rng.integers(1, 3))
    content = bytearray(nifti(version=version, **BOTH_FORMS))
    fields = list(header_fields(version).values())
    for _ in range(rng.integers(1, 4)):
        offset, form = fields[rng.integers(len(fields))]
        width = struct.calcsize(form.lstrip("0123456789") if "s" not in form else "B")
        place = offset + width * int(rng.integers(struct.calcsize("<" + form) // width))
        extreme = rng.choice([0, 1, 2, 127, 128, 255], width).astype(np.uint8).tobytes()
        content[place : place + width] = extreme if rng.random() < 0.5 else rng.bytes(width)
    return bytes(content)


def _plain(rng: np.random.Generator) -> Files:
    content = _nifti(rng)
    return {"scan.nii": _bytes_changed(rng, content) if rng.random() < 0.3 else content}


def _gzip(rng: np.random.Generator) -> Files:
    content = squeeze(_nifti(rng) if rng.random() < 0.5 else nifti())
    return {"scan.nii.gz": _bytes_changed(rng, content) if rng.random() < 0.8 else content}


def _headed(rng: np.random.Generator, name: str, make: Callable[..., bytes], field: str, end: bytes) -> Files:
    """A text header with voxels behind it or beside it."""
    if beside := rng.random() < 0.3:
        content = make(raw=b"", **{field: "scan.raw"})
    else:
        content = make(VOXELS.astype(rng.choice(["i2", "f4", "u1"])), packed=bool(rng.random() < 0.5))
    header, found, body = content.partition(end)
    if rng.random() < 0.7:
        header = _encoded(_text_changed(rng, header.decode()))
    whole = header + found + (_bytes_changed(rng, body) if rng.random() < 0.1 else body)
    whole = _bytes_changed(rng, whole) if rng.random() < 0.3 else whole
    return {name: whole, **({"scan.raw": _bytes_changed(rng, _RAW) if rng.random() < 0.3 else _RAW} if beside else {})}


def _meta(rng: np.random.Generator) -> Files:
    return _headed(rng, "scan.mha", metaimage, "ElementDataFile", b"LOCAL\n")


def _nrrd(rng: np.random.Generator) -> Files:
    return _headed(rng, "scan.nrrd", nrrd, "data_file", b"\n\n")


def _table(rng: np.random.Generator) -> Files:
    name, text = ("cases.csv", _CSV) if rng.random() < 0.5 else ("cases.json", _JSON)
    content = _encoded(_text_changed(rng, text))
    images = {row["t1"]: b"not looked at" for row in _ROWS}
    return {name: _bytes_changed(rng, content) if rng.random() < 0.3 else content, **images}


def _config(rng: np.random.Generator) -> Files:
    content = _encoded(_text_changed(rng, _CONFIG))
    return {"config.yaml": _bytes_changed(rng, content) if rng.random() < 0.2 else content}


def _read_image(path: Path, number: int) -> str | None:
    """What is wrong with a volume that was read, or None."""
    rules = _RULES[number % len(_RULES)]
    volume = read(path, rules)
    header = read_header(path, rules)
    if not (np.isfinite(volume.data).all() and np.isfinite(volume.affine).all()):
        return "the volume is not finite"
    if (header.grid.shape, header.dtype) != (volume.shape, volume.data.dtype) or min(volume.shape) < 2:
        return f"the header says {header.grid.shape} {header.dtype}, the volume is {volume.shape} {volume.data.dtype}"
    if volume.data.nbytes > 8 * sum(file.stat().st_size for file in path.parent.iterdir()) * 1032:
        return f"{volume.data.nbytes} bytes came of a small file"
    return None if len(volume.orientation) == 3 else "the volume has no orientation"


def _read_split(path: Path, number: int) -> str | None:
    from medtrans.config.schema import FileSplit
    from medtrans.data.cohort import build_cohort
    from medtrans.plugins.interfaces import Case, Dataset

    class Four(Dataset):
        """Four cases."""

        def cases(self) -> list[Case]:
            return [Case(f"c{one}", f"s{one}", {"t1": dict, "t2": dict}) for one in range(1, 5)]  # type: ignore[dict-item]  # never called

    cohort = build_cohort(Four(), FileSplit(by="file", path=str(path)), source=["t1"], target=["t2"], seed=number)
    return None if 3 <= len(cohort.members) <= 4 else f"{len(cohort.members)} of 4 cases are in the cohort"


def _read_manifest(path: Path, _: int) -> str | None:
    from medtrans.builtin.datasets.table import Table

    for case in Table(path=path).cases():
        if not (case.case and case.subject):
            return f"a case without name or subject: {case}"
        inside = [Path(str(image)) for image in case.images.values()]
        if not all(image.is_file() for image in inside):
            return f"a file that is not there: {case.images}"
    return None


def _read_config(path: Path, _: int) -> str | None:
    from medtrans.config.loading import load_config
    from medtrans.plugins.registry import Registry

    Registry.others = lambda _: ()  # type: ignore[method-assign]  # a name that is not known would start a process for each
    load_config([path])
    return None


KINDS: dict[str, tuple[float, Callable[[np.random.Generator], Files], Callable[[Path, int], str | None]]] = {
    "nifti": (0.2, _plain, _read_image),
    "gzip": (0.2, _gzip, _read_image),
    "metaimage": (0.2, _meta, _read_image),
    "nrrd": (0.2, _nrrd, _read_image),
    "split": (0.05, _table, _read_split),
    "manifest": (0.1, _table, _read_manifest),
    "config": (0.02, _config, _read_config),
}
"""Of each kind its share of the cases, how a case is made, and how it is read."""


def files_of_case(kind: str, number: int) -> Files:
    """The files of a case, the one that is read first."""
    return KINDS[kind][1](np.random.default_rng([number, *kind.encode()]))


def _fault_faults(error: MedtransError, path: Path) -> Iterator[str]:
    """What a user would miss in the faults of a refusal."""
    for fault in error.faults or ("",):
        told = (str(path), str(path.with_name("scan.raw")), f"{path.name}, row")
        begins = ("split", "no config file at", "...", path.name)
        if not (any(name in fault for name in told) or fault.startswith(begins)):
            yield f"the file is not named: {fault[:300]}"
        elif len(fault) > _LONGEST or fault.encode(errors="replace").decode() != fault:
            yield f"too much is told, or what cannot be printed: {ascii(fault)[:300]}"


def _watch(folder: Path) -> None:
    """End the process, with a word, where anything but reading happens outside the folder."""
    changing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
    moving = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod")
    starting = ("subprocess.Popen", "os.system", "os.exec", "os.fork", "os.posix_spawn", "socket.connect")

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        writes = event in moving or (event == "open" and bool(arguments[2] & changing))
        named = writes and isinstance(arguments[0], (str, bytes))
        outside = named and not os.path.realpath(os.fsdecode(arguments[0])).startswith(str(folder))
        if outside or event in starting:
            os.write(1, f"{json.dumps(f'{event} {arguments[:2]!r}')}\n".encode())
            os._exit(9)

    sys.addaudithook(hook)


def main(kind: str, first: int, last: int, folder: Path) -> None:
    """Read cases `first` to `last`."""
    _, _, reader = KINDS[kind]
    starters = {"split": ("cases.csv", _CSV), "manifest": ("cases.json", _JSON), "config": ("config.yaml", _CONFIG)}
    sound = starters.get(kind)
    if sound is not None:  # imports what it needs before limits count
        (folder / sound[0]).write_text(sound[1])
        with contextlib.suppress(MedtransError):
            reader(folder / sound[0], 0)
        (folder / sound[0]).unlink()
    sys.dont_write_bytecode = True
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # the end of the process, wherever it is
    _watch(folder.resolve())
    for number in range(first, last):
        os.write(1, f"{number}\n".encode())
        files = files_of_case(kind, number)
        for name, content in files.items():
            (folder / name).write_bytes(content)
        path = folder / next(iter(files))
        signal.alarm(_SECONDS)
        try:
            problem = reader(path, number)
            problems = [problem] if problem else []
        except MedtransError as error:
            problems = list(_fault_faults(error, path))
        except BaseException as error:  # noqa: BLE001 -- whatever comes is the find
            problems = [f"{type(error).__name__}: {error}"[:500]]
        signal.alarm(0)
        left = {entry.name for entry in folder.iterdir()}
        problems += [f"left behind: {sorted(left - set(files))}"] * bool(left - set(files))
        for entry in folder.iterdir():
            entry.unlink()
        for problem in problems:
            os.write(1, f"{json.dumps(problem)}\n".encode())


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
