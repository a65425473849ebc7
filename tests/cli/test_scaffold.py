"""`medtrans plugins new` writes a package that can be installed and passes its own tests."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sysconfig
import tomllib
import venv
from pathlib import Path

import pytest
from typer.testing import CliRunner

from medtrans.cli.app import app
from medtrans.cli.scaffold import Scaffold, write_plugin
from medtrans.errors import ConfigError
from medtrans.plugins.hookspecs import KINDS, PLUGIN_API

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def test_the_example_package_is_the_rendered_template() -> None:
    folder = ROOT / "plugins" / "medtrans-example"
    wanted = Scaffold("example", "generator").files()
    there = [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]

    assert {path.relative_to(folder).as_posix() for path in there} == set(wanted)
    for path, text in wanted.items():
        assert (folder / path).read_text(encoding="utf-8") == text, f"{path}: medtrans plugins new example"


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_package(kind: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["plugins", "new", "my-part", "--kind", kind, "--output", str(tmp_path / "new")])

    assert done.exit_code == 0
    project = tomllib.loads((tmp_path / "new" / "pyproject.toml").read_text())["project"]
    assert project["name"] == "medtrans-my-part"
    assert project["entry-points"]["medtrans"] == {"my_part": "medtrans_my_part"}
    module = (tmp_path / "new" / "src" / "medtrans_my_part" / "__init__.py").read_text()
    assert f"def {KINDS[kind]}()" in module
    assert "class MyPart(" in module
    assert f'PLUGIN_API = "{PLUGIN_API}"' in module
    test = (tmp_path / "new" / "tests" / "test_my_part_contract.py").read_text()
    assert f'conforms("{kind}", "my_part:my_part"' in test


@pytest.mark.parametrize(
    ("name", "kind", "fault"),
    [("Swin", "generator", "'Swin'"), ("builtin", "generator", "taken"), ("swin", "generatr", "'generator'")],
)
def test_a_name_or_kind_that_cannot_be_is_refused(name: str, kind: str, fault: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=fault):
        write_plugin(name, kind, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="is there already"):
        write_plugin("swin", "generator", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_printed_commands_make_install_and_test_a_plugin(tmp_path: Path) -> None:
    page = (DOCS / "plugin.md").read_text(encoding="utf-8")
    (commands,) = re.findall(r"<!-- new -->\n```bash\n(.*?)```", page, re.DOTALL)
    assert commands.split(" && ") == [
        "medtrans plugins new swin", "pip install -e swin", "medtrans plugins test swin\n"
    ]  # fmt: skip
    environment = fresh_environment(tmp_path / "env")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands], cwd=tmp_path, env=environment, capture_output=True, text=True,
        timeout=800,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "generator swin:swin" in done.stdout
    assert re.search(r"1 component; rules: \d+ kept, 0 broken, 0 not tried", done.stdout)

    tests = subprocess.run(
        ["python", "-m", "pytest", "-q", "swin"], cwd=tmp_path, env=environment, capture_output=True, text=True,
        timeout=800,
    )  # fmt: skip
    assert tests.returncode == 0, tests.stdout


def fresh_environment(folder: Path) -> dict[str, str]:
    """An environment of its own in which the packages of this one are installed too."""
    venv.create(folder)
    scripts = folder / "bin"
    site = next(folder.glob("lib/python*/site-packages"))
    (site / "beside.pth").write_text(f"{sysconfig.get_path('purelib')}\n{ROOT / 'src'}\n")
    for command in ("medtrans", "pip"):
        script = scripts / command
        script.write_text(f'#!/usr/bin/env bash\nexec {shlex.quote(str(scripts / "python"))} -m {command} "$@"\n')
        script.chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PIP_CONSTRAINT")}
    return {**kept, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}", "VIRTUAL_ENV": str(folder)}
