"""The kit finds each rule that a callback breaks, and nothing else."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from medtrans import Callback
from medtrans.testing.callback import CALLBACK_RULES
from medtrans.testing.trial import SHARED_RULES
from tests.testing.broken import Breaks, altered, broken_rules, contract


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a callback leaves in the working directory is left in a folder of the test's own."""
    monkeypatch.chdir(tmp_path)


class Sound(Callback):
    """Writes the steps into the run's folder."""

    def on_start(self, run):
        self.file = run.folder / "steps.txt"
        self.lines = []

    def on_step(self, step, values):
        self.lines.append(f"{step} {float(values['generator'])}")

    def on_end(self, step, error):
        self.file.write_text("\n".join(self.lines))


class NoEndWithoutValidation(Sound):  # relies on a validation
    def on_validation(self, step, means, cases):
        self.means = means

    def on_checkpoint(self, step, folder):
        self.lines.append(f"{self.means['psnr']}")


class NeedsAStep(Sound):  # relies on a step
    def on_step(self, step, values):
        self.last = step

    def on_end(self, step, error):
        self.file.write_text(f"{self.last}")


BREAKING = [
    Breaks("names hooks that exist", altered(Sound, on_steps=lambda *given: None), "on_steps is never called; did you"),
    Breaks("watches a whole run", NoEndWithoutValidation, "raised AttributeError"),
    Breaks("ends without a step", NeedsAStep, "raised AttributeError"),
    Breaks(
        "changes nothing",
        altered(Sound, on_step=lambda self, step, values: values["generator"].mul_(2)),
        "the values of a step",
    ),
    Breaks("leaves global random states alone", altered(Sound, on_step=lambda *given: random.random()), "the global"),
    Breaks(
        "keeps stdout clean",
        altered(Sound, on_step=lambda self, step, values: print("step", step)),  # noqa: T201 -- the fault
        "prints 'step 1' on stdout",
    ),
    Breaks(
        "writes inside the run",
        altered(Sound, on_checkpoint=lambda self, step, folder: Path(f"{id(self)}.txt").touch()),
        "in the working directory",
    ),
]


test_what_is_sound_breaks_no_rule, test_the_broken_rule_is_named_and_no_other, test_every_rule_is_broken = contract(
    "callback", [Sound], BREAKING, CALLBACK_RULES, but=SHARED_RULES
)


def test_a_fake_service_can_be_put_in_place() -> None:
    drives = []

    def around(drive):
        drives.append(drive)
        drive()

    assert broken_rules("callback", Sound, around=around) == {}
    assert len(drives) > 5
