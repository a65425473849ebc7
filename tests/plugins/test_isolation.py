"""A dozen broken plugins, installed together: each is named with its cause, and nothing else is touched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from medtrans.cli.app import app
from medtrans.cli.listing import plugins, shown
from medtrans.config.loading import load_config
from medtrans.errors import SetupError
from medtrans.plugins.discovery import Origin, discover
from medtrans.plugins.hookspecs import PLUGIN_API
from medtrans.plugins.probe import Probe, probe, probe_all
from medtrans.plugins.registry import Registry
from tests.conftest import Install

HERE = Path(__file__).parent / "fixtures"
LIMIT_S = 10.0
BROKEN = {
    "import_error": ("ImportError: libfoo.so.3: cannot open shared object file", 3),
    "syntax_error": ("SyntaxError: ", 3),
    "system_exit": ("SystemExit: 3", 3),
    "wrong_type": ("medtrans_losses must return a list of Component, found an item of str", 6),
    "misspelt_hook": ("there is no hook medtrans_generator; did you mean 'medtrans_generators'?", 6),
    "extra_argument": ("medtrans_losses takes no argument, found config", 6),
    "wrong_interface": ("written for plugin interface 2.0, this medtrans has 1.0; install a newer medtrans", 3),
    "no_version": ('PLUGIN_API is "-1", expected "major.minor"', 3),
    "missing_dependency": ("ModuleNotFoundError: No module named 'not_there_at_all'", 3),
    "hangs": (f"its import did not end within {LIMIT_S:g} s", 5),
    "ends_process": ("it ended the process while being imported, by os._exit(0)", 5),
}
REMARK = "it prints 'hello from a plugin' while being imported"


@pytest.fixture
def installed(install: Install) -> Path:
    """All plugins of `fixtures`, as if pip had installed them, beside two packages with one prefix."""
    code = {path.stem: path.read_text() for path in HERE.glob("*.py")}
    for name in sorted([*BROKEN, "prints", "name_clash", "sound"]):
        install(name, code[name], distribution=f"bad-{name.replace('_', '-')}", module=f"plugin_{name}")
    install("name_clash", code["name_clash"], distribution="other-clash", module="plugin_name_clash")
    site = install("builtin", code["sound"], distribution="squatter", module="plugin_sound").parent
    (site / "plugin_network.py").write_text(code["network"])
    return site


def test_each_is_listed_with_version_cause_place_and_remedy(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    probes = probe_all([one for one in Registry().others() if one.distribution != "medtrans"], LIMIT_S)
    monkeypatch.setattr("medtrans.cli.listing.probe_all", lambda origins, limit_s: probes)
    listed = {one["origin"]["distribution"]: one for one in json.loads(plugins(as_json=True)[0])}
    text, broken = plugins(as_json=False)

    for name, (cause, line) in BROKEN.items():
        distribution = f"bad-{name.replace('_', '-')}"
        found = listed[distribution]
        assert (found["origin"]["prefix"], found["origin"]["version"]) == (name, "1.2.3")
        assert found["remedy"] == f"pip uninstall {distribution}"
        assert cause in found["problem"]
        assert f"plugin_{name}.py:{line})" in found["problem"]
        assert f"{name}: {distribution} 1.2.3 (plugin_{name})\n  broken: {found['problem'][:40]}" in text
        assert f"pip uninstall {distribution}" in text
    assert (listed["bad-prints"]["problem"], listed["bad-prints"]["note"]) == ("", REMARK)
    assert f"note: {REMARK}; to remove it: pip uninstall bad-prints" in text
    for name in ("bad-name-clash", "other-clash"):
        assert "has the same prefix; write" in listed[name]["problem"]
    assert "takes the prefix of a plugin that comes with medtrans" in listed["squatter"]["problem"]
    assert listed["bad-sound"]["components"] == {"generator": ["mdaunet", "lazy"]}
    assert (listed["medtrans"]["problem"], listed["medtrans"]["interface"]) == ("", PLUGIN_API)
    assert broken == len(BROKEN) + 3  # and two that clash, and one that squats


def test_strict_fails_where_one_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    for problem, code in (("", 0), ("ImportError: no", 4)):
        monkeypatch.setattr("medtrans.cli.listing.probe_all", lambda origins, limit_s, problem=problem: [
            Probe(Origin("swin", "medtrans-swin", "1.0", "swin"), problem=problem)
        ])  # fmt: skip
        assert CliRunner().invoke(app, ["plugins", "--strict"]).exit_code == code


def test_help_versions_and_a_config_that_names_none_work(installed: Path, tiny: dict[str, Any]) -> None:
    for words in (["--help"], ["--version"], ["plugins", "--help"]):
        command = [sys.executable, "-m", "medtrans", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=240, cwd=installed.parent, check=False)
        assert done.returncode == 0, done.stderr
    assert load_config([tiny]).saved()["versions"].keys() == {"medtrans"}
    assert not [name for name in sys.modules if name.startswith("plugin_")]


def test_show_lists_what_works_and_shows_any_component(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medtrans.cli.listing.probe_all", lambda origins, limit_s=LIMIT_S: [
        probe(origin, LIMIT_S) for origin in origins if origin.prefix in ("sound", "import_error")
    ])  # fmt: skip
    assert "sound:mdaunet" in shown("generator", None, ())
    assert "name: sound:mdaunet" in shown("generator", "sound:mdaunet", ())
    assert "preset: paper" in shown("generator", "mdaunet", ())


def test_a_component_that_needs_what_is_not_installed_costs_itself_only(installed: Path) -> None:
    registry = Registry()
    assert registry.find("generator", "sound:mdaunet").origin.distribution == "bad-sound"
    with pytest.raises(SetupError, match=r"generator 'lazy' of plugin 'sound' from bad-sound.*No module named"):
        registry.find("generator", "sound:lazy")


def test_a_second_mdaunet_changes_no_config_and_its_full_name_selects_it(installed: Path, tiny: dict[str, Any]) -> None:
    plain = load_config([tiny])
    assert type(plain.build("generator", in_channels=1, out_channels=1)).__name__ == "MDAUNet"
    assert plain.saved()["versions"].keys() == {"medtrans"}

    chosen = load_config([tiny], ["generator.name=sound:mdaunet"])
    assert type(chosen.build("generator", in_channels=1, out_channels=1)).__name__ == "Small"
    assert chosen.saved()["versions"]["bad-sound"] == "1.2.3"


@pytest.mark.slow
def test_a_probe_tells_what_hangs_and_where(installed: Path) -> None:
    (origin,) = [origin for origin in discover() if origin.prefix == "hangs"]
    found = probe(origin, LIMIT_S)
    assert found.problem == f"its import did not end within {LIMIT_S:g} s ({installed}{os.sep}plugin_hangs.py:5)"


def test_a_run_says_what_it_waits_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("medtrans.plugins.registry._PATIENCE_S", 0.05)
    file = tmp_path / "slow.py"
    file.write_text("import threading\nthreading.Event().wait(0.5)\n")

    Registry([file]).plugin("slow")

    assert "still importing plugin 'slow'" in caplog.text
