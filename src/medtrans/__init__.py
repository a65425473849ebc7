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
    from medtrans.checkreport import CheckReport as CheckReport
    from medtrans.components import Augmentation as Augmentation
    from medtrans.components import Callback as Callback
    from medtrans.components import Case as Case
    from medtrans.components import Component as Component
    from medtrans.components import Dataset as Dataset
    from medtrans.components import Method as Method
    from medtrans.components import Metric as Metric
    from medtrans.components import Parts as Parts
    from medtrans.components import Preprocess as Preprocess
    from medtrans.components import RunInfo as RunInfo
    from medtrans.components import Scored as Scored
    from medtrans.detailed_metric import DetailedMetric as DetailedMetric
    from medtrans.detailed_metric import Surroundings as Surroundings
    from medtrans.errors import ConfigError as ConfigError
    from medtrans.errors import DataError as DataError
    from medtrans.errors import MedtransError as MedtransError
    from medtrans.errors import RunCancelledError as RunCancelledError
    from medtrans.errors import RunInterruptedError as RunInterruptedError
    from medtrans.errors import SetupError as SetupError
    from medtrans.errors import TrainingError as TrainingError
    from medtrans.hookspecs import PLUGIN_API as PLUGIN_API
    from medtrans.hookspecs import hookimpl as hookimpl
    from medtrans.inference import Translator as Translator
    from medtrans.inference import load as load
    from medtrans.lookup import component as component
    from medtrans.pipeline import check as check
    from medtrans.pipeline import run as run
    from medtrans.runfolder import RunFolder as RunFolder
    from medtrans.types import Loss as Loss
    from medtrans.volume import Volume as Volume
    from medtrans.weights_file import read_weights as read_weights

_HOMES = {
    "__version__": "_version",
    "Augmentation": "components",
    "Callback": "components",
    "Case": "components",
    "CheckReport": "checkreport",
    "Component": "components",
    "ConfigError": "errors",
    "CycleMethod": "builtin.methods.cycle",
    "DataError": "errors",
    "Dataset": "components",
    "DetailedMetric": "detailed_metric",
    "Loss": "types",
    "MDAUNet": "builtin.generators.mdaunet",
    "MedtransError": "errors",
    "Method": "components",
    "Metric": "components",
    "MultiResUNet": "builtin.discriminators.multires_unet",
    "PLUGIN_API": "hookspecs",
    "PairedMethod": "builtin.methods.paired",
    "Parts": "components",
    "PatchGAN": "builtin.discriminators.patchgan",
    "Preprocess": "components",
    "RunCancelledError": "errors",
    "RunFolder": "runfolder",
    "RunInfo": "components",
    "RunInterruptedError": "errors",
    "Scored": "components",
    "SetupError": "errors",
    "Surroundings": "detailed_metric",
    "TrainingError": "errors",
    "Translator": "inference",
    "UNet": "builtin.generators.unet",
    "Volume": "volume",
    "check": "pipeline",
    "component": "lookup",
    "hookimpl": "hookspecs",
    "load": "inference",
    "read_weights": "weights_file",
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
