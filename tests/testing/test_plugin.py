"""A whole plugin is tried from the command line, with a readable verdict on each rule."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from medtrans import Component
from medtrans.builtin.losses.voxel import L1
from medtrans.cli.app import app
from medtrans.errors import ConfigError
from medtrans.testing import ConformanceError, check_loss, verdicts
from medtrans.testing.kits import KITS, plugin_verdicts

pytest_plugins = ["pytester"]

PLUGIN = '''
"""A loss that keeps its contract, one that does not, a dataset that needs files, and a metric."""

from medtrans import Component, Dataset, Loss, Metric, hookimpl
from medtrans.types import batch_mean


class Sound(Loss):
    """The mean absolute difference."""

    def forward(self, inputs):
        return batch_mean((inputs.prediction[0] - inputs.target[0].detach()).abs())


class Offset(Sound):
    """Is not 0 at identity."""

    def forward(self, inputs):
        return super().forward(inputs) + 1


class Files(Dataset):
    """Needs files.

    Args:
        root: folder of the files.
    """

    def __init__(self, *, root: str) -> None:
        self.root = root

    def cases(self):
        return []


@hookimpl
def medtrans_losses():
    return [Component("sound", Sound, trial={"symmetric": True}), Component("offset", Offset)]


@hookimpl
def medtrans_datasets():
    return [Component("files", Files)]
'''


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "mine.py"
    path.write_text(PLUGIN)
    return str(path)


def test_each_component_gets_a_verdict_on_each_rule(file: str) -> None:
    done = CliRunner().invoke(app, ["plugins", "test", "mine", "--plugin", file])

    assert done.exit_code == 4
    lines = done.stdout.splitlines()
    components = [line for line in lines if not line.startswith(" ")][:-1]
    assert components == ["loss mine:sound", "loss mine:offset", "dataset mine:files"]
    for told in ("kept       is symmetric", "broken     is what it should be at identity", "not tried  needs root"):
        assert [line for line in lines if line.startswith(f"  {told}")], told
    assert re.fullmatch(r"3 components; rules: \d+ kept, 1 broken, \d+ not tried", lines[-1])


def test_one_component_alone_is_tried_by_its_full_name(file: str) -> None:
    done = CliRunner().invoke(app, ["plugins", "test", "mine:sound", "--json", "--plugin", file])

    assert done.exit_code == 0
    (tried,) = json.loads(done.stdout)
    assert (tried["kind"], tried["name"]) == ("loss", "mine:sound")
    assert {verdict["outcome"] for verdict in tried["verdicts"]} == {"kept", "not tried"}


@pytest.mark.parametrize(
    ("ask", "told"),
    [
        (lambda file: plugin_verdicts("mine:sund", [file]), "'sund'.*'sound'"),
        (lambda file: plugin_verdicts("nobody"), "'nobody'"),
        (lambda file: verdicts("looss", L1), "'looss'.*'loss'"),
        (lambda file: verdicts("loss", Component("l1", L1, trial={"pach_size": (8, 8, 8)})), "pach_size.*patch_size"),
        (lambda file: check_loss("l1", excused={"is symetric": "a typing error"}), "'is symetric'.*did you mean"),
    ],
    ids=["component", "plugin", "kind", "setting", "rule"],
)
def test_what_is_not_there_is_told_with_what_is(ask: Callable[[Path], object], told: str, file: str) -> None:
    with pytest.raises(ConfigError, match=told):
        ask(Path(file))


def test_settings_come_from_the_component_and_those_given_win() -> None:
    component = Component("l1", L1, trial={"symmetric": True, "patch_size": (8, 8, 8)})
    kept = {verdict.rule for verdict in verdicts("loss", component) if verdict.outcome == "kept"}
    assert "is symmetric where claimed" in kept
    fewer = verdicts("loss", component, symmetric=False)
    assert "is symmetric where claimed" in {one.rule for one in fewer if one.outcome == "not tried"}


def test_a_rule_is_excused_by_name_and_with_a_reason() -> None:
    settings = {"patch_size": (8, 8, 8), "at_identity": 3.0}
    with pytest.raises(ConformanceError, match="is what it should be at identity"):
        check_loss("l1", **settings)
    tried = check_loss("l1", **settings, excused={"is what it should be at identity": "an example"})
    (excused,) = [verdict for verdict in tried if verdict.rule == "is what it should be at identity"]
    assert str(excused) == "not tried  is what it should be at identity: excused: an example"


def test_options_that_a_config_could_not_give_break_the_rules_that_need_them() -> None:
    with pytest.raises(ConformanceError, match="its options are refused: masked: expected true or false, found 'yes'"):
        check_loss("l1", options={"masked": "yes"})


@pytest.mark.parametrize("kind", KITS)
def test_rules_are_sentences_that_differ(kind: str) -> None:
    rules = [rule.sentence for rule in KITS[kind].rules(KITS[kind].trial(Component("any", dict)))]
    assert len(set(rules)) == len(rules) > 5
    assert not [rule for rule in rules if rule != rule.strip() or rule.endswith(".")]


@pytest.mark.slow
def test_the_fixture_makes_a_test_of_six_lines(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(pytester.path))
    pytester.makepyfile(mine=PLUGIN)
    pytester.makepyfile(
        test_mine="""
        import mine

        pytest_plugins = ["medtrans.testing.fixtures"]

        def test_sound(conforms):
            conforms("loss", mine.Sound, symmetric=True)

        def test_offset(conforms):
            conforms("loss", mine.Offset)
        """
    )
    done = pytester.runpytest_subprocess("-p", "no:cacheprovider", timeout=200)
    done.assert_outcomes(passed=1, failed=1)
    done.stdout.fnmatch_lines(["*ConformanceError: loss 'Offset' breaks 1 of*"])
