"""Rules of a contract, what trying one gave, and the error that lists every rule that is broken."""

from __future__ import annotations

import logging
import random
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Literal, TypeVar

import numpy as np
import torch

from medtrans.errors import ConfigError, MedtransError
from medtrans.utils.messages import did_you_mean

__all__ = [
    "Broken",
    "ConformanceError",
    "NotTried",
    "Rule",
    "Verdict",
    "changed_states",
    "states",
    "try_rules",
    "undisturbed",
]

Subject = TypeVar("Subject", contravariant=True)

_OURS = str(Path(__file__).parent)


@dataclass(frozen=True)
class Verdict:
    """What trying one rule gave.

    Args:
        rule: as a sentence that holds where it is kept.
        outcome: "kept", "broken", or "not tried".
        detail: what is wrong and what to do; or why it was not tried.
    """

    rule: str
    outcome: Literal["kept", "broken", "not tried"]
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.outcome:<9}  {self.rule}{f': {self.detail}' if self.detail else ''}"


class ConformanceError(AssertionError):
    """A component breaks its contract.

    Args:
        subject: what was tried, such as "generator 'unet'".
        verdicts: of all rules.
    """

    def __init__(self, subject: str, verdicts: Sequence[Verdict]) -> None:
        self.verdicts = tuple(verdicts)
        self.broken = tuple(verdict for verdict in verdicts if verdict.outcome == "broken")
        listed = "".join(f"\n  {verdict.rule}: {verdict.detail}" for verdict in self.broken)
        super().__init__(f"{subject} breaks {len(self.broken)} of {len(verdicts)} rules:{listed}")


class Broken(Exception):  # noqa: N818 -- a verdict rather than an error
    """Raised by a rule that is broken; the message says what was found and what to do."""


class NotTried(Exception):  # noqa: N818 -- likewise
    """Raised by a rule that cannot be tried here; the message says why."""


@dataclass(frozen=True)
class Rule(Generic[Subject]):
    """One rule of a contract: the sentence by which authors name it, and a check that raises where it does not hold."""

    sentence: str
    check: Callable[[Subject], None]


def try_rules(
    rules: Iterable[Rule[Subject]], subject: Subject, excused: Mapping[str, str] | None = None
) -> tuple[Verdict, ...]:
    """Try all rules but the excused, each with the global random states as they were.

    Raises:
        ConfigError: an excused rule is not among the rules.
    """
    rules, excused = tuple(rules), excused or {}
    known = [rule.sentence for rule in rules]
    strangers = [f"no rule '{name}' to excuse{did_you_mean(name, known)}" for name in excused if name not in known]
    if strangers:
        raise ConfigError(*strangers)
    return tuple(
        Verdict(rule.sentence, "not tried", f"excused: {excused[rule.sentence]}")
        if rule.sentence in excused
        else _tried(rule, subject)
        for rule in rules
    )


def _tried(rule: Rule[Subject], subject: Subject) -> Verdict:
    try:
        with undisturbed(), _unheard():
            rule.check(subject)
    except NotTried as reason:
        return Verdict(rule.sentence, "not tried", str(reason))
    except Broken as fault:
        return Verdict(rule.sentence, "broken", str(fault))
    except (Exception, SystemExit) as error:  # noqa: BLE001 -- whatever a component raises is a verdict on it
        return Verdict(rule.sentence, "broken", raised(error))
    return Verdict(rule.sentence, "kept")


@contextmanager
def _unheard() -> Iterator[None]:
    """Warnings are no rule's business: they must not end one where a test run turns them into errors."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def raised(error: BaseException) -> str:
    """An error of the component in one line, with the last place in its own code."""
    text = " ".join(str(error).split()) or "no message"
    if isinstance(error, MedtransError):
        return text
    place = ""
    with suppress(IndexError):
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_machinery(frame.filename)]
        place = f" ({frames[-1].filename}:{frames[-1].lineno})"
    return f"raised {type(error).__name__}: {text}{place}"


def _is_machinery(filename: str) -> bool:
    return filename.startswith((_OURS, "<frozen")) or "/torch/" in filename or "/contextlib.py" in filename


_NAMES = ("random", "numpy.random", "torch")


def states() -> tuple[object, ...]:
    """The global random states of Python, NumPy and torch, to be compared."""
    name, keys, *rest = np.random.get_state()  # noqa: NPY002 -- the global state is what is watched
    return random.getstate(), (name, np.asarray(keys).tobytes(), *rest), torch.random.get_rng_state().numpy().tobytes()


def changed_states(before: tuple[object, ...], *, but: tuple[str, ...] = ()) -> list[str]:
    """The names of the states that are no longer as they were; `but` names those that may change."""
    return [name for name, old, new in zip(_NAMES, before, states(), strict=True) if old != new and name not in but]


@contextmanager
def leaving_states(
    doing: str = "it", advice: str = "use a generator of its own", *, but: tuple[str, ...] = ()
) -> Iterator[None]:
    """Break a rule where the block (`doing` it) draws from a global generator or seeds it; `but` names exceptions."""
    before = states()
    yield
    if found := changed_states(before, but=but):
        raise Broken(f"{doing} changes the global state of {', '.join(found)}; {advice}")


def expect_no_seeding(act: Callable[[], object]) -> None:
    """Break a rule where making or calling something seeds torch, or draws from any other global generator."""
    ends = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        with leaving_states("making or calling it", but=("torch",)):
            act()
        ends.append(states()[2])
    if ends[0] == ends[1]:
        raise Broken("making or calling it seeds torch's global generator; use `torch.Generator` of its own")


@contextmanager
def undisturbed() -> Iterator[None]:
    """Put the global random states back afterwards."""
    python_state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002 -- as above
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)  # noqa: NPY002 -- as above
