"""The hooks that plugins fill, all on this screen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from medtrans.plugins.components import Component

__all__ = ["KINDS", "PLUGIN_API", "hookimpl", "hookspec"]


PLUGIN_API = "1.0"
"""The plugin interface's version; a plugin module that states another major is listed, not loaded."""

hookspec = pluggy.HookspecMarker("medtrans")
hookimpl = pluggy.HookimplMarker("medtrans")


@hookspec
def medtrans_generators() -> list[Component]:  # type: ignore[empty-body]  # a hook specification has no body
    """Networks that translate: `(in_channels, out_channels, patch_size, ...) -> module`."""


@hookspec
def medtrans_discriminators() -> list[Component]:  # type: ignore[empty-body]  # as above
    """Networks that judge: `(source_channels, target_channels, patch_size, ...) -> module`."""


@hookspec
def medtrans_losses() -> list[Component]:  # type: ignore[empty-body]  # as above
    """Losses: `(levels, ...) -> Loss`."""


@hookspec
def medtrans_datasets() -> list[Component]:  # type: ignore[empty-body]  # as above
    """Sources of cases: `(...) -> Dataset`."""


@hookspec
def medtrans_metrics() -> list[Component]:  # type: ignore[empty-body]  # as above
    """Scores of whole volumes: `(data_range, data_low, ...) -> Metric`."""


@hookspec
def medtrans_methods() -> list[Component]:  # type: ignore[empty-body]  # as above
    """Ways to train: `(parts, ...) -> Method`."""


@hookspec
def medtrans_transforms() -> list[Component]:  # type: ignore[empty-body]  # as above
    """Intensity scalings and augmentations: `(...) -> Preprocess | Augmentation`."""


@hookspec
def medtrans_callbacks() -> list[Component]:  # type: ignore[empty-body]  # as above
    """Watchers of a run: `(...) -> Callback`."""


KINDS = {
    kind: f"medtrans_{plural}"
    for kind, plural in {
        "generator": "generators",
        "discriminator": "discriminators",
        "loss": "losses",
        "dataset": "datasets",
        "metric": "metrics",
        "method": "methods",
        "transform": "transforms",
        "callback": "callbacks",
    }.items()
}
"""The kinds of component, in the singular, and the hook of each."""
