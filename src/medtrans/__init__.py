"""The public names; each is imported when first used, so that `import medtrans` loads no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medtrans.utils.lazy import lazy_names

if TYPE_CHECKING:
    from medtrans._version import __version__ as __version__
    from medtrans.builtin.discriminators import MultiResUNet as MultiResUNet
    from medtrans.builtin.discriminators import PatchGAN as PatchGAN
    from medtrans.builtin.generators.mdaunet import MDAUNet as MDAUNet
    from medtrans.builtin.generators.unet import UNet as UNet
    from medtrans.builtin.methods.cycle import CycleMethod as CycleMethod
    from medtrans.builtin.methods.paired import PairedMethod as PairedMethod
    from medtrans.data.checks.cases import CheckReport
    from medtrans.errors import (
        ConfigError,
        DataError,
        MedtransError,
        RunCancelledError,
        RunInterruptedError,
        SetupError,
        TrainingError,
    )
    from medtrans.inference.loading import load
    from medtrans.inference.translator import Translator
    from medtrans.pipeline import check as check
    from medtrans.pipeline import run as run
    from medtrans.plugins.hookspecs import PLUGIN_API, Component, hookimpl
    from medtrans.plugins.interfaces import (
        Augmentation,
        Callback,
        Case,
        Dataset,
        DetailedMetric,
        Method,
        Metric,
        Parts,
        Preprocess,
        RunInfo,
        Scored,
        Surroundings,
    )
    from medtrans.plugins.registry import component
    from medtrans.plugins.weights import read_weights
    from medtrans.runs.folder import RunFolder
    from medtrans.types import Loss as Loss
    from medtrans.utils.messages import duration_text
    from medtrans.volume import Volume

__all__ = [
    "PLUGIN_API", "Augmentation", "Callback", "Case", "CheckReport", "Component", "ConfigError", "CycleMethod",
    "DataError", "Dataset", "DetailedMetric", "Loss", "MDAUNet", "MedtransError", "Method", "Metric", "MultiResUNet",
    "PairedMethod", "Parts", "PatchGAN", "Preprocess", "RunCancelledError", "RunFolder", "RunInfo",
    "RunInterruptedError", "Scored", "SetupError", "Surroundings", "TrainingError", "Translator", "UNet", "Volume",
    "__version__", "check", "component", "duration_text", "hookimpl", "load", "read_weights", "run",
]  # fmt: skip

if not TYPE_CHECKING:
    _NAMES = {
        "_version": "__version__",
        "builtin.discriminators": "MultiResUNet PatchGAN",
        "builtin.generators.mdaunet": "MDAUNet",
        "builtin.generators.unet": "UNet",
        "builtin.methods.cycle": "CycleMethod",
        "builtin.methods.paired": "PairedMethod",
        "data.checks.cases": "CheckReport",
        "errors": "ConfigError DataError MedtransError RunCancelledError RunInterruptedError SetupError TrainingError",
        "inference.loading": "load",
        "inference.translator": "Translator",
        "pipeline": "check run",
        "plugins.hookspecs": "Component PLUGIN_API hookimpl",
        "plugins.interfaces": "Augmentation Callback Case Dataset DetailedMetric Method Metric Parts Preprocess "
        "RunInfo Scored Surroundings",
        "plugins.registry": "component",
        "plugins.weights": "read_weights",
        "runs.folder": "RunFolder",
        "types": "Loss",
        "utils.messages": "duration_text",
        "volume.volume": "Volume",
    }
    _HOMES = {name: module for module, names in _NAMES.items() for name in names.split()}
    __getattr__, __dir__ = lazy_names(__name__, _HOMES)
