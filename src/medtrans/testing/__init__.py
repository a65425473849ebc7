"""The conformance kit: whether a component keeps the contract of its kind, rule by rule.

With what tests of components are written with: `options_of`, `build` and `WeightedLoss`.
"""

from __future__ import annotations

from medtrans.plugins.interfaces import WeightedLoss
from medtrans.plugins.options import build, options_of
from medtrans.testing.callback import check_callback
from medtrans.testing.dataset import check_dataset
from medtrans.testing.discriminator import check_discriminator
from medtrans.testing.generator import check_generator
from medtrans.testing.kits import verdicts
from medtrans.testing.loss import check_loss
from medtrans.testing.method import check_method
from medtrans.testing.metric import check_metric
from medtrans.testing.rules import ConformanceError, Verdict
from medtrans.testing.transform import check_transform

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
