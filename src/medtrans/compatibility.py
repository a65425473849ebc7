"""Whether a plugin that was written for another version of the interface can be used."""

from __future__ import annotations

import re
from types import ModuleType

from medtrans.containment import PluginError
from medtrans.hookspecs import PLUGIN_API

__all__ = ["compatible", "stated_interface"]

_VERSION = re.compile(r"(\d+)\.(\d+)")


def stated_interface(module: ModuleType) -> str:
    """The version of the interface that a plugin says it was written for; the present one where it says nothing."""
    return str(getattr(module, "PLUGIN_API", PLUGIN_API))


def compatible(stated: str) -> str:
    """Nothing for this interface or an older minor one; a note for a newer minor one.

    Raises:
        PluginError: another major version, or no version at all.
    """
    found, own = _VERSION.fullmatch(stated), _VERSION.fullmatch(PLUGIN_API)
    if found is None or own is None:
        raise PluginError(f'PLUGIN_API is "{stated}", expected "major.minor" such as "{PLUGIN_API}"')
    if found[1] != own[1]:
        which = "a newer medtrans" if int(found[1]) > int(own[1]) else "a newer release of the plugin"
        raise PluginError(
            f"it is written for plugin interface {stated}, this medtrans has {PLUGIN_API}; install {which}"
        )
    if int(found[2]) > int(own[2]):
        return (
            f"it is written for plugin interface {stated}, this medtrans has {PLUGIN_API}: what {stated} added is not "
            "there; update medtrans if something is missing"
        )
    return ""
