"""Files are data: none of the hostile ones runs code, starts a process, opens a socket or writes outside its folder, as
heard by an audit hook in a process of its own; and the ear hears all of that."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.security.corpus import corpus

ROOT = Path(__file__).parents[2]
TRY = """
import json, sys, warnings
from pathlib import Path
warnings.simplefilter("ignore")
from tests.security.audit import Audit
from tests.security.hostile import faults_of
{before}
folder = Path(sys.argv[1])
print(json.dumps(faults_of(folder, Audit(folder), lambda one: {chosen})))
"""
DEEDS = {
    "evaluates": "eval('1 + 1')",
    "executes": "exec('x = 1')",
    "compiles": "compile('1', 'x', 'eval')",
    "runs a command": "os.system('true')",
    "starts a process": "subprocess.run(['true'])",
    "forks": "os.fork() or os._exit(0)",
    "opens a socket": "socket.socket().close()",
    "asks for an address": "suppressed(lambda: socket.getaddrinfo('127.0.0.1', 9))",
    "writes beside": "open(outside / 'x', 'w').close()",
    "makes a folder beside": "(outside / 'y').mkdir()",
    "removes beside": "(outside / 'there').unlink()",
    "moves out": "(inside / 'there').rename(outside / 'z')",
    "links out": "(outside / 'link').symlink_to(inside)",
    "climbs": "open(inside / '..' / 'outside' / 'w', 'w').close()",
    "writes through a link": "open(inside / 'way' / 'v', 'w').close()",
    "unpickles a function": "pickle.loads(b'cbuiltins\\nprint\\n.')",
    "imports code of the folder": "sys.path.insert(0, str(inside)); __import__('planted')",
}
WITHOUT = {
    "checkpoint": """
import torch
load = torch.load
torch.load = lambda file, **options: load(file, **{**options, "weights_only": False})
""",
    "cache": """
import numpy as np
load = np.load
np.load = lambda file, **options: load(file, allow_pickle=True)
""",
    "config": """
import yaml
from medtrans.config import layers, reading
layers.read_yaml = lambda text, name, **options: reading.Read(yaml.load(text, yaml.UnsafeLoader))
""",
}
HEAR = """
import json, os, pickle, socket, subprocess, sys
from contextlib import suppress
from pathlib import Path
from tests.security.audit import Audit

def suppressed(do):
    with suppress(OSError):
        do()

root = Path(sys.argv[1])
inside, outside = root / "inside", root / "outside"
audit = Audit(inside)
for name, deed in json.loads(sys.argv[2]).items():
    code = compile(deed, "deed", "exec")
    run = type(suppressed)(code, globals())
    with audit.armed(name):
        run()
with audit.armed("harmless"):
    (inside / "mine").write_text("x")
    (inside / "mine").rename(inside / "yours")
    (inside / "yours").unlink()
    (outside / "there-to-read").read_text()
    import colorsys
eval("1")
print(json.dumps(audit.heard))
"""


def child(code: str, *arguments: str) -> list[str]:
    """The list that a process of its own prints last."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found: list[str] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_there_are_at_least_ninety_and_they_come_every_way() -> None:
    files = corpus("mark")
    assert len({(file.route, file.label) for file in files}) == len(files) >= 90
    assert {file.route for file in files} == {
        "config", "image", "table", "split", "weights", "checkpoint", "export", "cache",
    }  # fmt: skip


def test_hostile_files_have_no_effect(tmp_path: Path) -> None:
    assert child(TRY.format(before="", chosen="True"), str(tmp_path)) == []


@pytest.mark.slow
@pytest.mark.parametrize(("route", "guard"), WITHOUT.items(), ids=WITHOUT)
def test_without_a_guard_the_ear_hears_it(tmp_path: Path, route: str, guard: str) -> None:
    chosen = f"one.route == {route!r} and 'multiply' not in one.label"
    found = child(TRY.format(before=guard, chosen=chosen), str(tmp_path))
    assert any(re.search(r"os\.system|exec of|left its mark", fault) for fault in found)


def test_the_ear_hears_every_deed_and_nothing_harmless(tmp_path: Path) -> None:
    for name in ("inside", "outside"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "there").touch()
    (tmp_path / "outside" / "there-to-read").touch()
    (tmp_path / "inside" / "way").symlink_to(tmp_path / "outside")
    (tmp_path / "inside" / "planted.py").write_text("x = 1\n")
    heard = child(HEAR, str(tmp_path), json.dumps(DEEDS))
    assert {one.partition(":")[0] for one in heard} == set(DEEDS)
