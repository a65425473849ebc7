"""The contract of callbacks, rule by rule."""

from __future__ import annotations

import copy
import io
import tempfile
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from medtrans.plugins.interfaces import Callback, RunInfo, Scored
from medtrans.testing.rules import Broken, Rule, Verdict, changed_states, states
from medtrans.testing.trial import SHARED_RULES, ComponentLike, Trial, check
from medtrans.utils.messages import did_you_mean

__all__ = ["CALLBACK_RULES", "CallbackTrial", "check_callback"]

_STEPS = 12


@dataclass(frozen=True)
class CallbackTrial(Trial):
    """A callback under trial.

    Args:
        around: called with a function that drives a short run; lets a test put a fake service in place.
    """

    kind: ClassVar[str] = "callback"

    around: Callable[[Callable[[], None]], None] | None = None

    def within(self, drive: Callable[[], None]) -> None:
        """Drive a run in the surroundings its author gives."""
        if self.around is None:
            drive()
        else:
            self.around(drive)


def drive(
    callback: Callback, folder: Path, *, first_step: int = 0, validate: bool = True, error: BaseException | None = None
) -> list[str]:
    """Lead a callback through a short run; returns what was changed under its eyes."""
    changed = []
    config = {"train": {"steps": _STEPS}, "output_dir": str(folder), "losses": {"l1": {"weight": 1.0}}}
    told = copy.deepcopy(config)
    values = {"generator": torch.tensor(0.5), "learning_rate": torch.tensor(1e-4)}
    kept = {name: float(value) for name, value in values.items()}
    scored = Scored("case_0001", {"psnr": 20.0}, np.zeros((24, 32, 3), np.uint8))
    checkpoint = folder / "checkpoints" / "step_00000012"
    checkpoint.mkdir(parents=True, exist_ok=True)
    (checkpoint / "manifest.json").write_text("{}", encoding="utf-8")
    (folder / "config.yaml").write_text("seed: 0\n", encoding="utf-8")
    files = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    callback.on_start(RunInfo(folder, told, first_step, _STEPS))
    step = first_step
    for step in range(first_step + 1, _STEPS + 1):
        callback.on_step(step, values)
        if validate and step % 6 == 0:
            callback.on_validation(step, {"psnr": 20.0}, [scored])
    callback.on_checkpoint(step, checkpoint)
    callback.on_end(step, error)
    if told != config:
        changed.append("the config it is told")
    if set(values) != set(kept) or any(float(values[name]) != number for name, number in kept.items()):
        changed.append("the values of a step")
    if any(not path.is_file() or path.read_bytes() != content for path, content in files.items()):
        changed.append("files of the run that are not its own")
    return changed


def watches_a_whole_run(trial: CallbackTrial) -> None:
    """From the first step, from a later one, without validation, and to a bad end."""
    ends: tuple[dict[str, Any], ...] = (
        {},
        {"first_step": 6},
        {"validate": False},
        {"error": RuntimeError("disk full")},
        {"error": KeyboardInterrupt()},
    )
    for settings in ends:
        with tempfile.TemporaryDirectory() as folder:
            trial.within(lambda folder=folder, settings=settings: _drive(trial, folder, **settings))  # type: ignore[misc]  # mypy does not infer defaults of a lambda


def ends_without_a_step(trial: CallbackTrial) -> None:
    """A run may fail before its first step."""

    def short() -> None:
        with tempfile.TemporaryDirectory() as folder:
            callback = _made(trial)
            callback.on_start(RunInfo(Path(folder), {}, 0, _STEPS))
            callback.on_end(0, RuntimeError("no data"))

    trial.within(short)


def changes_nothing(trial: CallbackTrial) -> None:
    """It watches: values, config and other files stay as they are."""
    found: list[str] = []

    def watched() -> None:
        with tempfile.TemporaryDirectory() as folder:
            found.extend(drive(_made(trial), Path(folder)))

    trial.within(watched)
    if found:
        raise Broken(f"it changes {', '.join(found)}; a callback watches only")


def leaves_random_states_alone(trial: CallbackTrial) -> None:
    """Turning a callback on changes no result."""
    changed: list[str] = []

    def watched() -> None:
        before = states()
        _drive_anywhere(trial)
        changed.extend(changed_states(before))

    trial.within(watched)
    if changed:
        raise Broken(f"it changes the global state of {', '.join(changed)}; use a generator of its own")


def keeps_stdout_clean(trial: CallbackTrial) -> None:
    """Results go to stdout; talk goes to stderr or to the log."""
    printed = io.StringIO()
    with redirect_stdout(printed):
        trial.within(lambda: _drive_anywhere(trial))
    if text := printed.getvalue().strip():
        raise Broken(f"it prints {text.splitlines()[0]!r} on stdout; use logging.getLogger('medtrans') or stderr")


def writes_inside_the_run(trial: CallbackTrial) -> None:
    """Nothing is left where the command was called."""
    with tempfile.TemporaryDirectory() as folder:
        here = set(Path.cwd().iterdir())
        trial.within(lambda: _drive(trial, folder))
        left = sorted(path.name for path in set(Path.cwd().iterdir()) - here)
    if left:
        raise Broken(f"it leaves {left[0]} in the working directory; write below `run.folder`")


def names_hooks_that_exist(trial: CallbackTrial) -> None:
    """A misspelt hook is never called."""
    callback = _made(trial)
    known = [name for name in vars(Callback) if name.startswith("on_")]
    for name in dir(callback):
        if name.startswith("on_") and name not in known and callable(getattr(callback, name)):
            raise Broken(f"{name} is never called{did_you_mean(name, known)} (there are {', '.join(known)})")


CALLBACK_RULES: tuple[Rule[CallbackTrial], ...] = (
    *SHARED_RULES,
    Rule("names hooks that exist", names_hooks_that_exist),
    Rule("watches a whole run", watches_a_whole_run),
    Rule("ends without a step", ends_without_a_step),
    Rule("changes nothing", changes_nothing),
    Rule("leaves global random states alone", leaves_random_states_alone),
    Rule("keeps stdout clean", keeps_stdout_clean),
    Rule("writes inside the run", writes_inside_the_run),
)


def check_callback(
    component: ComponentLike,
    *,
    options: Mapping[str, Any] | None = None,
    around: Callable[[Callable[[], None]], None] | None = None,
    excused: Mapping[str, str] | None = None,
) -> tuple[Verdict, ...]:
    """Try a callback against its contract; returns the verdict on each rule.

    Settings that are not given are taken from the component's own `trial`.

    Args:
        component: a `Component`, the class itself, or a name as a config writes it.
        options: as a config gives them.
        around: called with a function that drives a short run; lets a test put a fake service in place.
        excused: rules that need not hold, each with the reason.

    Raises:
        ConformanceError: lists every rule that is broken, with what to do.
        ConfigError: there is no such component, setting or rule.
    """
    return check(CallbackTrial, CALLBACK_RULES, component, {"options": options, "around": around, "excused": excused})


def _made(trial: CallbackTrial) -> Callback:
    made = trial.make()
    missing = [name for name in vars(Callback) if name.startswith("on_") and not hasattr(made, name)]
    if missing:
        raise Broken(f"it has no {', '.join(missing)}; subclass medtrans.Callback")
    callback: Callback = made
    return callback


def _drive(trial: CallbackTrial, folder: str, **settings: Any) -> None:
    drive(_made(trial), Path(folder), **settings)


def _drive_anywhere(trial: CallbackTrial) -> None:
    with tempfile.TemporaryDirectory() as folder:
        _drive(trial, folder)
