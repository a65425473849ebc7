"""The look-up of one component by name, for those who use medtrans from Python."""

from __future__ import annotations

from medtrans.components import LoadedComponent
from medtrans.plugins import Registry

__all__ = ["component"]


def component(kind: str, name: str) -> LoadedComponent:
    """A component whose factory is a plain callable.

    Args:
        kind: in the singular: generator, discriminator, loss, dataset, metric, method, transform or callback.
        name: as a config writes it.

    Raises:
        ConfigError: no such component.
        SetupError: its plugin is broken.

    Example:
        >>> network = component("generator", "mdaunet").factory(1, 1, preset="tiny")
        >>> type(network).__name__
        'MDAUNet'
    """
    return Registry().find(kind, name).component.resolved()
