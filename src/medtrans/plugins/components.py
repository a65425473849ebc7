"""A component: the name a config knows it by, and the factory behind it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    pass

__all__ = ["Component", "LoadedComponent"]


@dataclass(frozen=True)
class Component:
    """One thing a plugin offers under a name.

    Args:
        name: what a config writes, after the plugin's prefix.
        factory: a class or function, or `"package.module:attribute"`, imported on first use so that listing stays quick
            and a missing dependency costs only this component.
        fixed: arguments the author sets; they are not options.
        trial: settings of the conformance kit under which `medtrans plugins test` tries it, such as smaller `options`;
            a run never looks at them.

    Example:
        >>> Component("double", "builtins:dict", fixed={"a": 2}).resolved().factory(b=3)
        {'a': 2, 'b': 3}
    """

    name: str
    factory: Callable[..., Any] | str
    fixed: Mapping[str, Any] = field(default_factory=dict)
    trial: Mapping[str, Any] = field(default_factory=dict)

    def load(self) -> Callable[..., Any]:
        """The factory itself, imported if need be, without the fixed arguments.

        Raises:
            ImportError, AttributeError: the factory or what it needs is not there.
        """
        if not isinstance(self.factory, str):
            return self.factory
        module, _, attribute = self.factory.partition(":")
        loaded: Callable[..., Any] = getattr(import_module(module), attribute)
        return loaded

    def resolved(self) -> LoadedComponent:
        """The same component with a callable factory that has the fixed arguments applied."""
        loaded = self.load()
        return LoadedComponent(self.name, partial(loaded, **self.fixed) if self.fixed else loaded, trial=self.trial)


@dataclass(frozen=True)
class LoadedComponent(Component):
    """A component whose factory is there to be called, as `medtrans.component` gives it."""

    factory: Callable[..., Any]
