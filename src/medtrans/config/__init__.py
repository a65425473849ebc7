"""From YAML files and `key=value` to a checked experiment.

Read first: `loading.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from medtrans.utils.lazy import lazy_names

if TYPE_CHECKING:
    from medtrans.config.experiment import Experiment as Experiment
    from medtrans.config.layers import shipped_configs as shipped_configs
    from medtrans.config.loading import load_config as load_config
    from medtrans.config.protocols import PROTOCOLS as PROTOCOLS
    from medtrans.config.schema import RunConfig as RunConfig

__all__ = [
    "PROTOCOLS",
    "Experiment",
    "RunConfig",
    "load_config",
    "shipped_configs",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "Experiment": "experiment",
            "PROTOCOLS": "protocols",
            "RunConfig": "schema",
            "load_config": "loading",
            "shipped_configs": "layers",
        },
    )
