"""One of the two processes that try components as ranks: reads questions on stdin, answers on stdout."""

from __future__ import annotations

import base64
import json
import os
import pickle
import sys
import warnings
from collections.abc import Mapping
from datetime import timedelta
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from typing import Any

import torch
from torch import distributed

from medtrans.testing.rules import Broken, NotTried, raised

__all__ = ["main"]

_LIMIT_S = 60  # for each exchange with the other rank


def main(rank: int, store: str) -> None:
    """Join the other rank through a file, and answer until stdin ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a component prints must not stand among the answers
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    answers.write("ready\n")
    answers.flush()
    question = sys.stdin.readline()
    if question:
        distributed.init_process_group(
            "gloo", init_method=f"file://{store}", rank=rank, world_size=2, timeout=timedelta(seconds=_LIMIT_S)
        )
    while question:
        answers.write(json.dumps(_answer(rank, json.loads(question))) + "\n")
        answers.flush()
        question = sys.stdin.readline()


def _answer(rank: int, job: Mapping[str, Any]) -> dict[str, str]:
    sys.path[:] = job["path"]
    try:
        for name, file in job["modules"].items():
            _import(name, file)
        question, subject = pickle.loads(base64.b64decode(job["cargo"]))  # noqa: S301 -- from our own parent
    except (Exception, SystemExit) as error:  # noqa: BLE001 -- the parent tells of it
        return {"stranger": f"{type(error).__name__}: {error}"}
    try:
        return {"value": base64.b64encode(pickle.dumps(question(subject, rank))).decode()}
    except (Broken, NotTried) as fault:
        return {"problem": str(fault)}
    except (Exception, SystemExit) as error:  # noqa: BLE001 -- the parent tells of it
        return {"problem": f"on two ranks it {raised(error)}"}


def _import(name: str, file: str) -> None:
    """A module by its name, or from its file where the name leads nowhere: tests, single-file plugins."""
    try:
        import_module(name)
    except ImportError:
        spec = spec_from_file_location(name, file)
        if spec is None or spec.loader is None:
            raise
        module = module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
