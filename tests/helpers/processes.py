"""Runs in processes of their own, forked from a warm one that has imported everything: quick, and free to die."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import matplotlib.pyplot  # noqa: F401 -- as below
import torch
import torch.utils.tensorboard

import medtrans.builtin.losses.perceptual_25d
import medtrans.pipeline  # noqa: F401 -- what a run imports, imported once
from medtrans.config.loading import load_config
from medtrans.data.datamodule import DataModule, load_cohort
from medtrans.distributed.cluster import environment_of_rank
from medtrans.distributed.devices import distributed_session
from medtrans.distributed.signals import end_requests
from medtrans.errors import MedtransError
from medtrans.evaluation.scorer import Scorer
from medtrans.evaluation.validation import Validator
from medtrans.inference.translator import Translator
from medtrans.runs import checkpoint
from medtrans.runs.session import run_session
from medtrans.training.build import make_method
from medtrans.training.trainer import train_method

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload([__name__])

LIMIT_S = 120.0
"""Longer than any of these processes should live; one that does is a hang."""


def config_of(folder: Path, **train: Any) -> dict[str, Any]:
    """A run with everything that has a state: pool, average, both optimisers, a schedule, curves, a best score."""
    return {
        "output_dir": str(folder),
        "dataset": {"name": "phantom", "options": {"subjects": 5, "size": [16, 16, 16]}},
        "source": ["t1"],
        "target": ["t2"],
        "preprocess": {"crop": "none", "intensity": {"t1": {"name": "percentile"}, "t2": {"name": "percentile"}}},
        "patch": {"size": [8, 8, 8], "per_volume": 2},
        "generator": {
            "name": "mdaunet",
            "options": {"preset": "fast", "width": 2, "growth": [2, 2], "n_rdb": 1, "rdb_layers": 1},
        },
        "discriminator": {"name": "multires_unet", "options": {"width": 2, "convs": 1, "levels": 2}},
        "losses": {"l1": {}, "relativistic": {"weight": 1e-2}},
        "method": {"name": "paired", "options": {"ema": 0.9, "pool_size": 3}},
        "metrics": {"psnr": {}},
        "callbacks": {},
        "train": {
            "steps": 12,
            "batch": 2,
            "workers": 0,
            "schedule": {"name": "cosine"},
            "validate_every": 5,
            "validation_cases": 1,
            "checkpoint_every": 2,
            "rank_timeout_s": 60.0,
            **train,
        },
        "inference": {"overlap": 0.0, "batch": 8},
    }


@dataclass(frozen=True)
class Mishap:
    """What befalls a process when it trains.

    Args:
        kind: "signal" sends `number` to itself; "exception" and "exit" end it.
        step: the step it happens in, from 0; None for `after_s` seconds after the first.
        after_s: see `step`.
        saving: None, or the count of calls of `os.fsync` after which it happens, wherever that is.
        number: of the signal.
        rank: whom it befalls.
    """

    kind: str = "signal"
    step: int | None = None
    after_s: float = 0.0
    saving: int | None = None
    number: int = signal.SIGKILL
    rank: int = 0

    def happen(self) -> None:
        """Now."""
        if self.kind == "exception":
            raise LookupError("an accident")
        if self.kind == "exit":
            os._exit(7)
        os.kill(os.getpid(), self.number)

    def arm(self, method: Any) -> None:
        """Let it happen while `method` trains."""
        train_step = method.training_step

        def step(batch: Any, step: int) -> Any:
            if self.step is None and self.saving is None and not hasattr(method, "armed"):
                method.armed = threading.Timer(self.after_s, self.happen)
                method.armed.daemon = True
                method.armed.start()
            if step == self.step:
                self.happen()
            return train_step(batch, step)

        method.training_step = step
        if self.saving is not None:
            calls, fsync = [0], os.fsync

            def counted(descriptor: int) -> None:
                calls[0] += 1
                if calls[0] == self.saving:
                    self.happen()
                fsync(descriptor)

            os.fsync = counted  # type: ignore[assignment]  # in this process only


def train_only(config: Mapping[str, Any], cache: str, resume: bool, mishap: Mishap | None) -> None:
    """`medtrans.run` without the assessment of test cases and the report."""
    experiment = load_config([config])
    with end_requests() as request, distributed_session(experiment.config.train) as (fabric, ranks):
        cohort, warnings = load_cohort(experiment)
        with run_session(experiment, cohort, warnings, resume=resume, overwrite=False, ranks=ranks) as folder:
            data = DataModule(experiment, cohort, Path(cache))
            numbers = data.prepare(ranks, request)
            method = make_method(experiment, training_cases=len(cohort.of("train")), ranks=ranks.count)
            if mishap is not None and mishap.rank == ranks.rank:
                mishap.arm(method)
            translator = Translator(experiment, method, data.preprocessing, numbers)
            validator = Validator(data, Scorer.of(data), translator, ranks)
            train_method(data, method, validator, fabric, folder, continued=resume, ranks=ranks, request=request)


def _child(work: Callable[..., None], arguments: Sequence[Any], environment: Mapping[str, str], log: str) -> None:
    os.environ.update(environment)
    multiprocessing.set_start_method("fork", force=True)  # as a run's own workers start, not as this process did
    torch.set_num_threads(1)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    try:
        work(*arguments)
    except MedtransError as error:
        sys.stderr.write("\n".join([*error.faults, ""]))
        raise SystemExit(error.exit_code) from None
    except Exception:  # noqa: BLE001 -- as the interpreter does
        traceback.print_exc()
        raise SystemExit(1) from None


@dataclass
class Processes:
    """The ranks of one run.

    Args:
        logs: what each says on stdout and stderr.
        running: the processes.
    """

    logs: list[Path] = field(default_factory=list)
    running: list[ForkServerProcess] = field(default_factory=list)

    def ended(self, limit_s: float = LIMIT_S) -> list[int]:
        """Their exit codes, when all have ended."""
        for process in self.running:
            process.join(limit_s)
        hung = [process for process in self.running if process.is_alive()]
        for process in hung:
            process.kill()
            process.join()
        assert not hung, f"still there after {limit_s} s: {self.said}"
        return [int(process.exitcode or 0) for process in self.running]

    @property
    def said(self) -> str:
        """All they said."""
        return "".join(log.read_text() for log in self.logs if log.exists())


def start(folder: Path, work: Callable[..., None], *arguments: Any, ranks: int = 1) -> Processes:
    """Start `work` in as many processes as there are ranks, with the variables torchrun would set."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    found = Processes()
    for rank in range(ranks):
        environment = environment_of_rank(rank, ranks, port) if ranks > 1 else {}
        log = folder / f"said_{len(list(folder.glob('said_*')))}_{rank}.txt"
        log.touch()
        process = _context.Process(target=_child, args=(work, arguments, environment, str(log)))
        process.start()
        found.logs.append(log)
        found.running.append(process)
    return found


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def trained(
    config: Mapping[str, Any], cache: Path, *, resume: bool = False, ranks: int = 1, mishap: Mishap | None = None
) -> tuple[list[int], str]:
    """Train in processes of their own; exit codes, and what they said."""
    logs = Path(config["output_dir"]).with_name(f"{Path(config['output_dir']).name}_logs")
    processes = start(logs, train_only, config, str(cache), resume, mishap, ranks=ranks)
    return processes.ended(), processes.said


def fingerprint(folder: Path) -> dict[str, str]:
    """SHA-256 of everything the newest checkpoint of a run holds, part by part, and of what is marked."""
    found = checkpoint.newest(folder / "checkpoints")
    assert found is not None
    parts: dict[str, Any] = {name: dict(weights) for name, weights in found.networks().items()}
    parts |= {f"state.{name}": value for name, value in found.state().items()}
    parts["step"] = found.step
    parts["best"] = (folder / "checkpoints" / "best.json").read_text()
    return {name: _digest(value) for name, value in parts.items()}


def _digest(value: Any) -> str:
    digest = hashlib.sha256()
    _feed(digest, value)
    return digest.hexdigest()


def _feed(digest: Any, value: Any) -> None:
    if isinstance(value, torch.Tensor):
        digest.update(f"{value.dtype}{tuple(value.shape)}".encode())
        digest.update(
            value.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes() if value.numel() else b""
        )
    elif isinstance(value, Mapping):
        for key in sorted(value, key=repr):
            digest.update(repr(key).encode())
            _feed(digest, value[key])
    elif isinstance(value, list | tuple):
        digest.update(f"{len(value)}".encode())
        for one in value:
            _feed(digest, one)
    else:
        digest.update(repr(value).encode())
