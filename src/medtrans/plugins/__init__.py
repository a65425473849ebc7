"""What a plugin may offer, how plugins are found, and how a component is built from a config.

Read first: `hookspecs.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from medtrans.utils.lazy import lazy_names

if TYPE_CHECKING:
    from medtrans.plugins.components import Component as Component
    from medtrans.plugins.components import LoadedComponent as LoadedComponent
    from medtrans.plugins.discovery import Origin as Origin
    from medtrans.plugins.hookspecs import PLUGIN_API as PLUGIN_API
    from medtrans.plugins.hookspecs import hookimpl as hookimpl
    from medtrans.plugins.interfaces import Augmentation as Augmentation
    from medtrans.plugins.interfaces import Callback as Callback
    from medtrans.plugins.interfaces import Case as Case
    from medtrans.plugins.interfaces import Dataset as Dataset
    from medtrans.plugins.interfaces import DetailedMetric as DetailedMetric
    from medtrans.plugins.interfaces import Method as Method
    from medtrans.plugins.interfaces import Metric as Metric
    from medtrans.plugins.interfaces import Parts as Parts
    from medtrans.plugins.interfaces import Preprocess as Preprocess
    from medtrans.plugins.interfaces import RunInfo as RunInfo
    from medtrans.plugins.interfaces import Scored as Scored
    from medtrans.plugins.interfaces import Surroundings as Surroundings
    from medtrans.plugins.interfaces import WeightedLoss as WeightedLoss
    from medtrans.plugins.registry import Found as Found
    from medtrans.plugins.registry import Registry as Registry
    from medtrans.plugins.registry import component as component

__all__ = [
    "PLUGIN_API",
    "Augmentation",
    "Callback",
    "Case",
    "Component",
    "Dataset",
    "DetailedMetric",
    "Found",
    "LoadedComponent",
    "Method",
    "Metric",
    "Origin",
    "Parts",
    "Preprocess",
    "Registry",
    "RunInfo",
    "Scored",
    "Surroundings",
    "WeightedLoss",
    "component",
    "hookimpl",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "Augmentation": "interfaces",
            "Callback": "interfaces",
            "Case": "interfaces",
            "Component": "components",
            "Dataset": "interfaces",
            "DetailedMetric": "interfaces",
            "Found": "registry",
            "LoadedComponent": "components",
            "Method": "interfaces",
            "Metric": "interfaces",
            "Origin": "discovery",
            "PLUGIN_API": "hookspecs",
            "Parts": "interfaces",
            "Preprocess": "interfaces",
            "Registry": "registry",
            "RunInfo": "interfaces",
            "Scored": "interfaces",
            "Surroundings": "interfaces",
            "WeightedLoss": "interfaces",
            "component": "registry",
            "hookimpl": "hookspecs",
        },
    )
