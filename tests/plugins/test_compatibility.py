"""A plugin for an older minor interface works, for a newer one with a note, for another major not at all."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import pytest

from medtrans import Component
from medtrans.errors import SetupError
from medtrans.plugins.discovery import PluginError
from medtrans.plugins.hookspecs import PLUGIN_API
from medtrans.plugins.options import build
from medtrans.plugins.registry import Registry, compatible
from tests.conftest import Install

OFFER = """
from medtrans import Component, hookimpl

def made(in_channels, *, width: int = 1):
    return in_channels, width

@hookimpl
def medtrans_generators():
    return [Component("own", made)]
"""


@pytest.fixture
def of_2_3(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Registry]:
    """A registry of a medtrans whose interface is 2.3; its own plugins are there already."""

    def made() -> Registry:
        registry = Registry()
        monkeypatch.setattr("medtrans.plugins.registry.PLUGIN_API", "2.3")
        return registry

    return made


@pytest.mark.parametrize(
    ("stated", "note"),
    [("2.3", ""), ("2.2", ""), ("2.0", ""), ("2.4", "written for plugin interface 2.4, this medtrans has 2.3")],
)
def test_the_same_and_an_older_minor_are_loaded_without_a_word_and_a_newer_one_with_a_note(
    install: Install, of_2_3: Callable[[], Registry], stated: str, note: str, caplog: pytest.LogCaptureFixture
) -> None:
    install("mine", f'PLUGIN_API = "{stated}"\n{OFFER}')
    plugin = of_2_3().plugin("mine")
    assert plugin.interface == stated
    assert note in plugin.note
    assert list(plugin.components) == [("generator", "own")]  # the hooks it does not know are not missed
    assert bool(plugin.note) == bool(note) == ("plugin 'mine' from medtrans-mine 1.2.3" in caplog.text)


@pytest.mark.parametrize(
    ("stated", "advice"),
    [("3.0", "install a newer medtrans"), ("1.9", "install a newer release of the plugin")],
)
def test_another_major_is_not_loaded_and_says_what_to_install(
    install: Install, of_2_3: Callable[[], Registry], stated: str, advice: str
) -> None:
    install("mine", f'PLUGIN_API = "{stated}"\n{OFFER}')
    with pytest.raises(SetupError, match=f"interface {stated}, this medtrans has 2.3; {advice}"):
        of_2_3().plugin("mine")


@pytest.mark.parametrize("stated", ["-1", "two", "1", ""])
def test_what_is_no_version_is_refused(stated: str) -> None:
    with pytest.raises(PluginError, match=r'expected "major\.minor"'):
        compatible(stated)


def test_a_plugin_that_states_nothing_is_taken_as_of_now(install: Install) -> None:
    install("mine", OFFER)
    assert Registry().plugin("mine").interface == PLUGIN_API


def test_a_new_fact_reaches_nobody_who_does_not_name_it(install: Install) -> None:
    install("mine", OFFER)
    component = Registry().find("generator", "mine:own").component
    facts = {"in_channels": 2, "out_channels": 1, "patch_size": (8, 8, 8), "device": "cpu"}
    assert build(component, "generator", {"width": 3}, facts) == (2, 3)


def test_fields_that_a_component_gained_are_optional_and_come_last() -> None:
    parameters = list(inspect.signature(Component).parameters.values())
    assert [one.name for one in parameters] == ["name", "factory", "fixed", "trial"]
    assert all(one.default is not inspect.Parameter.empty for one in parameters[2:])
