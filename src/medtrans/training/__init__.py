"""Networks, optimisers and the loop.

Read first: `trainer.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from medtrans.utils.lazy import lazy_names

if TYPE_CHECKING:
    from medtrans.training.build import make_method as make_method
    from medtrans.training.preflight import run_preflight as run_preflight
    from medtrans.training.state import TrainingState as TrainingState
    from medtrans.training.trainer import Trainer as Trainer
    from medtrans.training.trainer import train_method as train_method

__all__ = [
    "Trainer",
    "TrainingState",
    "make_method",
    "run_preflight",
    "train_method",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "Trainer": "trainer",
            "TrainingState": "state",
            "make_method": "build",
            "run_preflight": "preflight",
            "train_method": "trainer",
        },
    )
