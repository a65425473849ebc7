"""A run that is asked to end saves the step it is in, says how to go on, and exits with a code that says so."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from medtrans import RunCancelledError, RunInfo, RunInterruptedError
from medtrans.distributed.signals import end_requests
from medtrans.runs import checkpoint
from medtrans.training.state import TrainingState
from tests.helpers.processes import Mishap, config_of, fingerprint, trained
from tests.helpers.toys import toy_trainer
from tests.training.test_trainer import Ears, Random, batches


@pytest.mark.parametrize(
    ("number", "error", "code", "every"),
    [
        (signal.SIGTERM, RunInterruptedError, 75, 9),
        (signal.SIGUSR1, RunInterruptedError, 75, 3),  # in a step that is saved anyway, and only once
        (signal.SIGINT, RunCancelledError, 130, 9),
    ],
)
def test_a_signal_ends_the_run_after_the_step_it_came_in_with_a_checkpoint(tmp_path, number, error, code, every):
    class Asked(Random):
        """Is sent a signal in its third step."""

        def training_step(self, batch: Any, step: int) -> Any:
            if step == 2:
                signal.raise_signal(number)
            return super().training_step(batch, step)

    before, state, ears = signal.getsignal(number), TrainingState(), Ears()
    with end_requests() as request:
        trainer = toy_trainer(Asked(), tmp_path, steps=9, every=every, callbacks=[ears], request=request)
        with pytest.raises(error) as caught:
            trainer.fit(batches(0, 9), state, RunInfo(tmp_path, {}, 0, 9))
    assert caught.value.exit_code == code
    for told in ("step 3 of 9", number.name, "--resume"):
        assert told in str(caught.value)
    assert checkpoint.newest(tmp_path).step == state.step == 3
    assert [heard for heard in ears.heard if heard.startswith("checkpoint")] == ["checkpoint 3 step_00000003"]
    assert ears.heard[-1] == f"end 3 {error.__name__}"
    assert signal.getsignal(number) is before


def test_the_second_ctrl_c_leaves_at_once() -> None:
    code = (
        "import signal, time\n"
        "from medtrans.distributed.signals import end_requests\n"
        "with end_requests() as request:\n"
        "    signal.raise_signal(signal.SIGINT)\n"
        "    print('asked', request.made, flush=True)\n"
        "    signal.raise_signal(signal.SIGINT)\n"
        "    print('still here', flush=True)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == -signal.SIGINT
    assert ended.stdout == "asked True\n"


def test_a_run_in_another_thread_listens_to_none() -> None:
    def listen() -> bool:
        with end_requests() as request:
            return request.made

    with ThreadPoolExecutor(1) as threads:
        assert threads.submit(listen).result() is False


def test_an_interrupted_run_exits_75_without_a_traceback_and_its_status_says_so(tmp_path: Path) -> None:
    config = config_of(tmp_path / "run", workers=1)
    codes, said = trained(config, tmp_path / "cache", mishap=Mishap(step=4, number=signal.SIGTERM))
    assert codes == [75]
    assert "Traceback" not in said
    assert f"medtrans run {tmp_path / 'run' / 'config.yaml'} --resume" in said
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert status["state"] == "interrupted"
    assert "step 5 of 12" in status["error"]
    assert str(tmp_path) not in status["error"]
    assert not (tmp_path / "run" / "run.lock").exists()


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_run_interrupted_at_any_moment_resumes_bit_for_bit(tmp_path: Path) -> None:
    cache, seconds = tmp_path / "cache", {"steps": 200, "validate_every": 60, "checkpoint_every": 25}
    codes, said = trained(config_of(tmp_path / "alone", **seconds), cache)
    assert codes == [0], said
    expected = fingerprint(tmp_path / "alone")
    draw = random.Random(0)
    for trial in range(4):
        config = config_of(tmp_path / f"run{trial}", workers=trial % 2, **seconds)
        mishap = Mishap(after_s=draw.uniform(0, 1.0), number=signal.SIGTERM)
        codes, said = trained(config, cache, mishap=mishap)
        assert codes == [75], said
        codes, said = trained(config, cache, resume=True)
        assert codes == [0], said
        assert fingerprint(tmp_path / f"run{trial}") == expected
