"""Plugins are found, named, contained and attributed; none touches a config that does not name it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from medtrans.errors import ConfigError, SetupError
from medtrans.plugins.discovery import discover
from medtrans.plugins.registry import Registry
from tests.conftest import GENERATOR_PLUGIN, Install

HOOK = "from medtrans import Component, hookimpl\n@hookimpl\n"
BROKEN = {
    "import not_there_at_all": "ModuleNotFoundError: No module named 'not_there_at_all'",
    "raise SystemExit(3)": "SystemExit: 3",
    f"{HOOK}def medtrans_losses():\n    return None": "must return a list of Component, found NoneType",
    f"{HOOK}def medtrans_losses():\n    return [Component('a', dict)] * 2": "offers 'a' twice",
}


def test_the_builtins_come_through_the_entry_point_group() -> None:
    assert [origin.distribution for origin in discover() if origin.prefix == "builtin"] == ["medtrans"]


def test_a_bare_name_is_a_builtin_and_a_prefixed_one_a_plugins(install: Install) -> None:
    install("swin", GENERATOR_PLUGIN)
    registry = Registry()
    assert registry.find("generator", "mdaunet").origin.distribution == "medtrans"
    assert registry.find("generator", "swin:mdaunet").origin.distribution == "medtrans-swin"
    assert registry.find("generator", "builtin:mdaunet").name == "builtin:mdaunet"


def test_a_plugin_that_nobody_names_is_not_imported(install: Install) -> None:
    install("swin", "raise RuntimeError('imported')")
    Registry().find("generator", "mdaunet")
    assert "plugin_medtrans_swin" not in sys.modules


@pytest.mark.parametrize(("code", "cause"), BROKEN.items(), ids=BROKEN.values())
def test_a_broken_plugin_is_named_with_cause_and_remedy_and_leaves_the_others_alone(
    install: Install, code: str, cause: str
) -> None:
    install("bad", code)
    registry = Registry()
    with pytest.raises(SetupError) as error:
        registry.find("generator", "bad:anything")
    message = str(error.value)
    assert "plugin 'bad' from medtrans-bad 1.2.3 (plugin_medtrans_bad)" in message
    assert cause in message
    assert "pip uninstall medtrans-bad" in message
    assert registry.find("loss", "l1").component.name == "l1"


def test_importing_a_plugin_prints_nothing_where_programs_read(
    install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    install("prints", "print('hello')\n")
    assert Registry().plugin("prints").note == "it prints 'hello' while being imported"
    assert capsys.readouterr().out == ""


def test_two_packages_with_one_prefix_are_told_apart_by_their_own_names(install: Install) -> None:
    install("swin", GENERATOR_PLUGIN, distribution="medtrans-swin")
    install("swin", GENERATOR_PLUGIN, distribution="other-swin")
    registry = Registry()
    with pytest.raises(ConfigError, match=r"several plugins are called 'swin'.*medtrans-swin.*other-swin"):
        registry.find("generator", "swin:small")
    assert registry.find("generator", "other_swin:small").origin.distribution == "other-swin"
    assert registry.find("generator", "mdaunet").origin.distribution == "medtrans"


def test_no_package_can_take_the_place_of_the_builtins(install: Install) -> None:
    install("builtin", GENERATOR_PLUGIN, distribution="squatter")
    assert Registry().find("generator", "mdaunet").origin.distribution == "medtrans"


def test_a_single_file_is_a_plugin_under_its_stem(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(GENERATOR_PLUGIN)
    found = Registry([path]).find("generator", "mine:small")
    assert found.component.resolved().factory(1, 1, width=2).body[0].out_channels == 2


@pytest.mark.parametrize(("name", "message"), [("absent.py", "no such file"), ("builtin.py", "is there already")])
def test_a_file_that_cannot_be_a_plugin_is_refused(tmp_path: Path, name: str, message: str) -> None:
    if name != "absent.py":
        (tmp_path / name).write_text("")
    with pytest.raises(ConfigError, match=message):
        Registry([tmp_path / name])


@pytest.mark.parametrize(
    ("name", "found"), [("mdaunett", "'mdaunet'"), ("MDAUNET", "'mdaunet'"), ("swinn:x", "'swinn'.*builtin")]
)
def test_an_unknown_name_gets_the_nearest_and_an_unknown_prefix_what_is_installed(name: str, found: str) -> None:
    with pytest.raises(ConfigError, match=found):
        Registry().find("generator", name)
