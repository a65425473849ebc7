"""What a plugin may offer, how plugins are found, and how a component is built from a config.

Read first: `hookspecs.py`.
"""

from __future__ import annotations

from medtrans.plugins.discovery import Origin
from medtrans.plugins.hookspecs import PLUGIN_API, Component, LoadedComponent, hookimpl
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
    WeightedLoss,
)
from medtrans.plugins.registry import Found, Registry, component

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
