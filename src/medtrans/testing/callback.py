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
from medtrans.testing.rules import Broken, Rule, Verdict, leaving_states
from medtrans.testing.trial import SHARED_RULES, ComponentLike, Trial, check
from medtrans.utils.messages import did_you_mean

__all__ = ["CALLBACK_RULES", "CallbackTrial", "check_callback"]

_STEPS = 12
_HOOKS = [name for name in vars(Callback) if name.startswith("on_")]


@dataclass(frozen=True)
class CallbackTrial(Trial):
    """A callback under trial, with what `check_callback` sets."""

    kind: ClassVar[str] = "callback"

    around: Callable[[Callable[[], None]], None] | None = None

    def callback(self) -> Callback:
        """The callback, made anew."""
        made: Callback = self.make()
        missing = [name for name in _HOOKS if not hasattr(made, name)]
        if missing:
            raise Broken(f"it has no {', '.join(missing)}; subclass medtrans.Callback")
        return made

    def run(self, **settings: Any) -> list[str]:
        """Lead a callback through a short run in the surroundings its author gives; what it changed."""
        changed: list[str] = []

        def act() -> None:
            with tempfile.TemporaryDirectory() as folder:
                changed.extend(drive(self.callback(), Path(folder), **settings))

        if self.around is None:
            act()
        else:
            self.around(act)
        return changed


def drive(
    callback: Callback,
    folder: Path,
    *,
    first_step: int = 0,
    steps: int = _STEPS,
    validate: bool = True,
    error: BaseException | None = None,
) -> list[str]:
    """Call the hooks in the order of a run; returns what the callback changed that is not its own."""
    changed = []
    config = {"train": {"steps": _STEPS}, "output_dir": str(folder), "losses": {"l1": {"weight": 1.0}}}
    given = copy.deepcopy(config)
    values = {"generator": torch.tensor(0.5), "learning_rate": torch.tensor(1e-4)}
    kept = {name: float(value) for name, value in values.items()}
    scored = Scored("case_0001", {"psnr": 20.0}, np.zeros((24, 32, 3), np.uint8))
    checkpoint = folder / "checkpoints" / "step_00000012"
    checkpoint.mkdir(parents=True)
    (checkpoint / "manifest.json").write_text("{}", encoding="utf-8")
    (folder / "config.yaml").write_text("seed: 0\n", encoding="utf-8")
    files = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    callback.on_start(RunInfo(folder, given, first_step, _STEPS))
    for step in range(first_step + 1, steps + 1):
        callback.on_step(step, values)
        if validate and step % 6 == 0:
            callback.on_validation(step, {"psnr": 20.0}, [scored])
    if steps:
        callback.on_checkpoint(steps, checkpoint)
    callback.on_end(steps, error)
    if given != config:
        changed.append("the config it is told")
    if set(values) != set(kept) or any(float(values[name]) != number for name, number in kept.items()):
        changed.append("the values of a step")
    if any(not path.is_file() or path.read_bytes() != content for path, content in files.items()):
        changed.append("files of the run that are not its own")
    return changed


def watches_a_whole_run(trial: CallbackTrial) -> None:
    """From the first step, from a later one, without validation, and to a bad end."""
    trial.run()
    trial.run(first_step=6)
    trial.run(validate=False)
    for error in (RuntimeError("disk full"), KeyboardInterrupt()):
        trial.run(error=error)


def ends_without_a_step(trial: CallbackTrial) -> None:
    """A run may fail before its first step."""
    trial.run(steps=0, error=RuntimeError("no data"))


def changes_nothing(trial: CallbackTrial) -> None:
    """It watches: values, config and other files stay as they are."""
    if changed := trial.run():
        raise Broken(f"it changes {', '.join(changed)}; a callback watches only")


def leaves_random_states_alone(trial: CallbackTrial) -> None:
    """Turning a callback on changes no result."""
    with leaving_states():
        trial.run()


def keeps_stdout_clean(trial: CallbackTrial) -> None:
    """Results go to stdout; talk goes to stderr or to the log."""
    printed = io.StringIO()
    with redirect_stdout(printed):
        trial.run()
    if text := printed.getvalue().strip():
        raise Broken(f"it prints {text.splitlines()[0]!r} on stdout; use logging.getLogger('medtrans') or stderr")


def writes_inside_the_run(trial: CallbackTrial) -> None:
    """Nothing is left where the command was called."""
    here = set(Path.cwd().iterdir())
    trial.run()
    left = sorted(path.name for path in set(Path.cwd().iterdir()) - here)
    if left:
        raise Broken(f"it leaves {left[0]} in the working directory; write below `run.folder`")


def names_hooks_that_exist(trial: CallbackTrial) -> None:
    """A misspelt hook is never called."""
    callback = trial.callback()
    for name in dir(callback):
        if name.startswith("on_") and name not in _HOOKS and callable(getattr(callback, name)):
            raise Broken(f"{name} is never called{did_you_mean(name, _HOOKS)} (there are {', '.join(_HOOKS)})")


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
    """Try a callback against its contract, with a verdict on each rule; its own `trial` gives settings left out.

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
