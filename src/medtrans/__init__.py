"""Owns the public names; each is imported when first used, so that `import medtrans` loads no torch."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medtrans._version import __version__ as __version__
    from medtrans.builtin.discriminators.multires_unet import MultiResUNet as MultiResUNet
    from medtrans.builtin.discriminators.patchgan import PatchGAN as PatchGAN
    from medtrans.builtin.generators.mdaunet import MDAUNet as MDAUNet
    from medtrans.builtin.generators.unet import UNet as UNet
    from medtrans.builtin.methods.cycle import CycleMethod as CycleMethod
    from medtrans.builtin.methods.paired import PairedMethod as PairedMethod
    from medtrans.data.checks.report import CheckReport
    from medtrans.errors import ConfigError as ConfigError
    from medtrans.errors import DataError as DataError
    from medtrans.errors import MedtransError as MedtransError
    from medtrans.errors import RunCancelledError as RunCancelledError
    from medtrans.errors import RunInterruptedError as RunInterruptedError
    from medtrans.errors import SetupError as SetupError
    from medtrans.errors import TrainingError as TrainingError
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
    from medtrans.volume import Volume

_HOMES = {
    "__version__": "_version",
    "Augmentation": "plugins.interfaces",
    "Callback": "plugins.interfaces",
    "Case": "plugins.interfaces",
    "CheckReport": "data.checks.report",
    "Component": "plugins.hookspecs",
    "ConfigError": "errors",
    "CycleMethod": "builtin.methods.cycle",
    "DataError": "errors",
    "Dataset": "plugins.interfaces",
    "DetailedMetric": "plugins.interfaces",
    "Loss": "types",
    "MDAUNet": "builtin.generators.mdaunet",
    "MedtransError": "errors",
    "Method": "plugins.interfaces",
    "Metric": "plugins.interfaces",
    "MultiResUNet": "builtin.discriminators.multires_unet",
    "PLUGIN_API": "plugins.hookspecs",
    "PairedMethod": "builtin.methods.paired",
    "Parts": "plugins.interfaces",
    "PatchGAN": "builtin.discriminators.patchgan",
    "Preprocess": "plugins.interfaces",
    "RunCancelledError": "errors",
    "RunFolder": "runs.folder",
    "RunInfo": "plugins.interfaces",
    "RunInterruptedError": "errors",
    "Scored": "plugins.interfaces",
    "SetupError": "errors",
    "Surroundings": "plugins.interfaces",
    "TrainingError": "errors",
    "Translator": "inference.translator",
    "UNet": "builtin.generators.unet",
    "Volume": "volume.volume",
    "check": "pipeline",
    "component": "plugins.registry",
    "hookimpl": "plugins.hookspecs",
    "load": "inference.loading",
    "read_weights": "plugins.weights",
    "run": "pipeline",
}

__all__ = [
    "PLUGIN_API",
    "Augmentation",
    "Callback",
    "Case",
    "CheckReport",
    "Component",
    "ConfigError",
    "CycleMethod",
    "DataError",
    "Dataset",
    "DetailedMetric",
    "Loss",
    "MDAUNet",
    "MedtransError",
    "Method",
    "Metric",
    "MultiResUNet",
    "PairedMethod",
    "Parts",
    "PatchGAN",
    "Preprocess",
    "RunCancelledError",
    "RunFolder",
    "RunInfo",
    "RunInterruptedError",
    "Scored",
    "SetupError",
    "Surroundings",
    "TrainingError",
    "Translator",
    "UNet",
    "Volume",
    "__version__",
    "check",
    "component",
    "hookimpl",
    "load",
    "read_weights",
    "run",
]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module 'medtrans' has no attribute '{name}'")
        return getattr(import_module(f"medtrans.{_HOMES[name]}"), name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
