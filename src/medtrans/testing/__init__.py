"""The conformance kit: whether a component keeps the contract of its kind, rule by rule.

With what tests of components are written with: `options_of`, `build` and `WeightedLoss`. Read first: `trial.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from medtrans.utils.lazy import lazy_names

if TYPE_CHECKING:
    from medtrans.plugins.interfaces import WeightedLoss as WeightedLoss
    from medtrans.plugins.options import build as build
    from medtrans.plugins.options import options_of as options_of
    from medtrans.testing.callback import check_callback as check_callback
    from medtrans.testing.dataset import check_dataset as check_dataset
    from medtrans.testing.discriminator import check_discriminator as check_discriminator
    from medtrans.testing.generator import check_generator as check_generator
    from medtrans.testing.kits import verdicts as verdicts
    from medtrans.testing.loss import check_loss as check_loss
    from medtrans.testing.method import check_method as check_method
    from medtrans.testing.metric import check_metric as check_metric
    from medtrans.testing.rules import ConformanceError as ConformanceError
    from medtrans.testing.rules import Verdict as Verdict
    from medtrans.testing.transform import check_transform as check_transform

__all__ = [
    "ConformanceError",
    "Verdict",
    "WeightedLoss",
    "build",
    "check_callback",
    "check_dataset",
    "check_discriminator",
    "check_generator",
    "check_loss",
    "check_method",
    "check_metric",
    "check_transform",
    "options_of",
    "verdicts",
]

if not TYPE_CHECKING:
    _HOMES = {name: name.removeprefix("check_") for name in __all__ if name.startswith("check_")}
    _HOMES |= {"ConformanceError": "rules", "Verdict": "rules", "verdicts": "kits"}
    _HOMES |= {"WeightedLoss": "method", "build": "trial", "options_of": "trial"}
    __getattr__, __dir__ = lazy_names(__name__, _HOMES)
