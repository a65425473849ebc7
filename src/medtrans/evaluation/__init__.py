"""How good predictions are, and whether they can be trusted.

Read first: `scorer.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from medtrans.utils.lazy import lazy_names

if TYPE_CHECKING:
    from medtrans.evaluation.downstream.experiment import run_downstream as run_downstream
    from medtrans.evaluation.evaluator import score_test_cases as score_test_cases
    from medtrans.evaluation.folders import evaluate_folders as evaluate_folders
    from medtrans.evaluation.run_comparison import compare_runs as compare_runs
    from medtrans.evaluation.scorer import Scorer as Scorer
    from medtrans.evaluation.validation import Validator as Validator

__all__ = [
    "Scorer",
    "Validator",
    "compare_runs",
    "evaluate_folders",
    "run_downstream",
    "score_test_cases",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "Scorer": "scorer",
            "Validator": "validation",
            "compare_runs": "run_comparison",
            "evaluate_folders": "folders",
            "run_downstream": "downstream.experiment",
            "score_test_cases": "evaluator",
        },
    )
