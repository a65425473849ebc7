"""The signature of a constructor that hands most of its arguments on to another class."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from typing import Any, TypeVar, get_type_hints

__all__ = ["hands_on_to"]

Constructor = TypeVar("Constructor", bound=Callable[..., None])


def hands_on_to(other: type, *, but: Collection[str]) -> Callable[[Constructor], Constructor]:
    """Give an `__init__` whose last parameter is `**options` the signature it has in truth.

    That is its own parameters and, for keywords, those of `other.__init__` with their defaults and types, so that
    medtrans offers them as options without anybody's list.

    Args:
        other: the class that gets the options.
        but: its parameters that the constructor sets itself.
    """

    def decorate(constructor: Constructor) -> Constructor:
        own = [one for one in inspect.signature(constructor).parameters.values() if one.kind is not one.VAR_KEYWORD]
        theirs: Any = vars(other)["__init__"]
        types = get_type_hints(theirs, include_extras=True)
        _, *offered = inspect.signature(theirs).parameters.values()
        taken = {*but, *(one.name for one in own)}
        passed = [
            one.replace(kind=one.KEYWORD_ONLY, annotation=types.get(one.name, one.annotation))
            for one in offered
            if one.name not in taken
        ]
        constructor.__signature__ = inspect.Signature([*own, *passed])  # type: ignore[attr-defined]  # inspect looks for it
        return constructor

    return decorate
