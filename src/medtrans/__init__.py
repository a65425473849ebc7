"""Owns the public names; each is imported when first used, so that `import medtrans` loads no torch."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medtrans._version import __version__ as __version__
    from medtrans.builtin.discriminators.multires_unet import MultiResUNet as MultiResUNet
    from medtrans.builtin.generators.mdaunet import MDAUNet as MDAUNet
    from medtrans.builtin.methods.paired import PairedMethod as PairedMethod
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
    from medtrans.errors import ConfigError as ConfigError
    from medtrans.errors import DataError as DataError
    from medtrans.errors import MedtransError as MedtransError
    from medtrans.errors import SetupError as SetupError
    from medtrans.errors import TrainingError as TrainingError
    from medtrans.hookspecs import PLUGIN_API as PLUGIN_API
    from medtrans.hookspecs import hookimpl as hookimpl
    from medtrans.inference import Translator as Translator
    from medtrans.inference import load as load
    from medtrans.lookup import component as component
    from medtrans.pipeline import check as check
    from medtrans.pipeline import run as run
    from medtrans.readiness import CheckReport as CheckReport
    from medtrans.runfolder import RunFolder as RunFolder
    from medtrans.types import Loss as Loss
    from medtrans.volume import Volume as Volume

_HOMES = {
    "__version__": "_version",
    "Augmentation": "components",
    "Callback": "components",
    "Case": "components",
    "CheckReport": "readiness",
    "Component": "components",
    "ConfigError": "errors",
    "DataError": "errors",
    "Dataset": "components",
    "Loss": "types",
    "MDAUNet": "builtin.generators.mdaunet",
    "MedtransError": "errors",
    "Method": "components",
    "Metric": "components",
    "MultiResUNet": "builtin.discriminators.multires_unet",
    "PLUGIN_API": "hookspecs",
    "PairedMethod": "builtin.methods.paired",
    "Parts": "components",
    "Preprocess": "components",
    "RunFolder": "runfolder",
    "RunInfo": "components",
    "Scored": "components",
    "SetupError": "errors",
    "TrainingError": "errors",
    "Translator": "inference",
    "Volume": "volume",
    "check": "pipeline",
    "component": "lookup",
    "hookimpl": "hookspecs",
    "load": "inference",
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
    "DataError",
    "Dataset",
    "Loss",
    "MDAUNet",
    "MedtransError",
    "Method",
    "Metric",
    "MultiResUNet",
    "PairedMethod",
    "Parts",
    "Preprocess",
    "RunFolder",
    "RunInfo",
    "Scored",
    "SetupError",
    "TrainingError",
    "Translator",
    "Volume",
    "__version__",
    "check",
    "component",
    "hookimpl",
    "load",
    "run",
]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module 'medtrans' has no attribute '{name}'")
        return getattr(import_module(f"medtrans.{_HOMES[name]}"), name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
