"""Calls that would let a file run code, or write where it likes, do not pass the linter, wherever they are written."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from textwrap import indent

import pytest

ROOT = Path(__file__).parents[1]
PLACES = ("src/medtrans/inference.py", "src/medtrans/builtin/datasets/table.py", "plugins/medtrans-x/src/x/net.py")
BANNED = {
    "import torch\ntorch.load('x', weights_only=True)": "TID251",
    "import torch\ntorch.jit.load('x')": "TID251",
    "import torch\ntorch.hub.load('a', 'b')": "TID251",
    "from torch import load\nload('x')": "TID251",
    "import pickle": "TID251",
    "from pickle import loads": "TID251",
    "import dill": "TID251",
    "import joblib": "TID251",
    "import shelve": "TID251",
    "import marshal": "TID251",
    "import numpy as np\nnp.load('x.npy')": "TID251",
    "from numpy import load": "TID251",
    "import yaml\nyaml.load('a', yaml.SafeLoader)": "TID251",
    "import yaml\nyaml.unsafe_load('a')": "TID251",
    "from omegaconf import OmegaConf\nOmegaConf.register_new_resolver('a', print)": "TID251",
    "import subprocess": "TID251",
    "from subprocess import run": "TID251",
    "import os\nos.system('ls')": "S605",
    "import os\nos.popen('ls')": "S605",
    "import zipfile\nzipfile.ZipFile('x').extractall('y')": "TID251",
    "import tarfile\ntarfile.open('x').extractall('y')": "S202",
    "import shutil\nshutil.unpack_archive('x')": "TID251",
    "eval('1')": "S307",
    "exec('1')": "S102",
    "import urllib.request": "TID251",
    "import requests": "TID251",
    "import runpy": "TID251",
}


@pytest.mark.skipif(find_spec("ruff") is None, reason="ruff is for development alone")
@pytest.mark.parametrize("place", PLACES)
def test_every_banned_call_is_found(place: str) -> None:
    code = "\n".join(f"def f{number}():\n{indent(call, '    ')}" for number, call in enumerate(BANNED))
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", "--output-format", "concise"]
    command += ["--stdin-filename", place, "-"]
    said = subprocess.run(command, input=code, cwd=ROOT, capture_output=True, text=True, check=False).stdout
    found = {(int(line), rule) for line, rule in re.findall(r":(\d+):\d+: (\w+)", said)}
    line = 0
    for call, rule in BANNED.items():
        lines = range(line + 1, line + 3 + call.count("\n"))
        line = lines[-1]
        assert any((one, rule) in found for one in lines), (call, rule)


def test_every_exception_says_why() -> None:
    for path in (ROOT / "src").rglob("*.py"):
        for line in path.read_text(encoding="utf-8").splitlines():
            if re.search(r"noqa: .*\b(TID251|S\d+)", line):
                assert " -- " in line.partition("noqa")[2], f"{path.name}: {line.strip()}"


def test_no_assert_guards_what_is_shipped() -> None:
    for path in (ROOT / "src").rglob("*.py"):
        assert not re.search(r"^\s*assert\b", path.read_text(encoding="utf-8"), re.MULTILINE), path
