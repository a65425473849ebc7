"""A component's options: what its signature says may be set, and the check of what was set."""

from __future__ import annotations

import functools
import inspect
import json
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Required, get_type_hints

import docstring_parser
from pydantic import ConfigDict, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from medtrans.errors import MedtransError, SetupError
from medtrans.plugins.hookspecs import Component
from medtrans.utils.messages import wording

FACTS: Mapping[str, tuple[str, ...]] = {
    "generator": ("in_channels", "out_channels", "patch_size", "initialise"),
    "discriminator": ("source_channels", "target_channels", "patch_size"),
    "loss": ("levels",),
    "metric": ("data_range", "data_low"),
    "method": ("parts",),
    "dataset": (),
    "transform": (),
    "callback": (),
    "optimizer": (),
    "schedule": (),
}
"""What the core tells each kind of component by name, if its signature asks for it."""

FACT_MEANINGS: Mapping[str, str] = {
    "in_channels": "channels of the source, one a modality",
    "out_channels": "channels of the target, one a modality",
    "source_channels": "channels of the source, one a modality",
    "target_channels": "channels of the target, one a modality",
    "patch_size": "sides of a training patch in voxels, three numbers",
    "initialise": "whether the first weights count: false where those of a checkpoint replace them at once",
    "levels": "levels that the generator gives, 1 for a single image",
    "data_range": "width of the range of intensities that are scored: the window in its unit, or 1",
    "data_low": "the lower end of that range",
    "parts": "networks, losses and optimisers to train with, as `medtrans.Parts`",
}
"""What each fact is."""


@dataclass(frozen=True)
class Option:
    """One parameter that a config may set; `default` is `inspect.Parameter.empty` where it must be set."""

    name: str
    annotation: Any
    default: Any
    doc: str

    @property
    def required(self) -> bool:
        """Whether a config must set it."""
        return self.default is inspect.Parameter.empty


@dataclass(frozen=True)
class Fault:
    """What is wrong with the options: the path inside them, and a clause."""

    path: tuple[str | int, ...]
    message: str


def facts_of(component: Component, kind: str) -> tuple[str, ...]:
    """The facts that a component's signature names and its author has not fixed."""
    named = {parameter.name for _, parameter in _parameters(component.load())}
    return tuple(fact for fact in FACTS[kind] if fact in named and fact not in component.fixed)


def options_of(component: Component, kind: str) -> tuple[Option, ...]:
    """All options of a component, in the order of its signature.

    `**kwargs` are followed along the classes' order of resolution; facts and `fixed` arguments are no options.

    Raises:
        SetupError: an annotation cannot be read; names the class and the parameter.
    """
    factory = component.load()
    documented = _documentation(factory)
    taken = {*FACTS[kind], *component.fixed, *getattr(factory, "keywords", {})}
    found: dict[str, Option] = {}
    for function, parameter in _parameters(factory):
        if parameter.name not in taken and parameter.name not in found:
            annotation = _annotation(function, parameter)
            doc = documented.get(parameter.name, "")
            found[parameter.name] = Option(parameter.name, annotation, parameter.default, doc)
    return tuple(found.values())


def check_options(component: Component, kind: str, values: Mapping[str, Any]) -> tuple[dict[str, Any], list[Fault]]:
    """Check the options a config sets, strictly (true is not 1, "4" is not 4).

    Returns:
        The set options as the signature's types (tuples, dataclasses, paths), and all faults; with faults the
        options are empty.
    """
    options = options_of(component, kind)
    fields = {option.name: Required[option.annotation] if option.required else option.annotation for option in options}
    typed_dict: Any = TypedDict  # a checker wants the fields written out; here they are known only at run time
    schema = typed_dict("Options", fields, total=False)
    schema.__pydantic_config__ = ConfigDict(
        extra="forbid", strict=True, arbitrary_types_allowed=True, allow_inf_nan=False
    )
    try:
        checked: dict[str, Any] = TypeAdapter(schema).validate_json(json.dumps(values))
    except ValidationError as error:
        known = [option.name for option in options]
        return {}, [Fault(tuple(fault["loc"]), wording(dict(fault), known)) for fault in error.errors()]
    return checked, []


def build(component: Component, kind: str, options: Mapping[str, Any], facts: Mapping[str, Any]) -> Any:
    """Call the component's factory with its fixed arguments, the facts its signature names, and the options.

    Raises:
        SetupError: the factory itself failed; names the component and the cause.
    """
    factory = component.load()
    named = {parameter.name for _, parameter in _parameters(factory)}
    passed = {name: value for name, value in facts.items() if name in named and name not in component.fixed}
    try:
        return factory(**component.fixed, **passed, **options)
    except MedtransError:
        raise
    except (TypeError, ValueError, ImportError) as error:
        raise SetupError(f"{kind} {component.name} could not be built: {error}") from error


def summary_of(component: Component) -> str:
    """The first line of the component's documentation."""
    return (inspect.getdoc(_unwrapped(component.load())) or "").partition("\n")[0]


def _unwrapped(factory: Callable[..., Any]) -> Callable[..., Any]:
    return factory.func if isinstance(factory, functools.partial) else factory


def _parameters(factory: Callable[..., Any]) -> Iterator[tuple[Callable[..., Any], inspect.Parameter]]:
    """The named parameters with the function that declares each."""
    for function in _signatures(_unwrapped(factory)):
        forwards = False
        for position, parameter in enumerate(inspect.signature(function).parameters.values()):
            if position == 0 and isinstance(_unwrapped(factory), type):
                continue
            if parameter.kind is parameter.VAR_KEYWORD:
                forwards = True
            elif parameter.kind is not parameter.VAR_POSITIONAL:
                yield function, parameter
        if not forwards:
            return


def _signatures(factory: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    if not isinstance(factory, type):
        yield factory
        return
    for owner in factory.__mro__:
        constructor = vars(owner).get("__init__")
        if isinstance(constructor, types.FunctionType):
            yield constructor


def _annotation(function: Callable[..., Any], parameter: inspect.Parameter) -> Any:
    if parameter.annotation is parameter.empty:
        return Any
    read = _evaluated if isinstance(parameter.annotation, str) else _evaluated.__wrapped__
    try:
        return read(function, parameter.name, parameter.annotation)
    except (NameError, AttributeError, TypeError, SyntaxError) as error:
        raise SetupError(
            f"{getattr(function, '__qualname__', function)}: the annotation of parameter '{parameter.name}' cannot be "
            f"read at run time ({error}); import its names outside `if TYPE_CHECKING:`"
        ) from error


@functools.lru_cache(maxsize=1024)
def _evaluated(function: Callable[..., Any], name: str, annotation: Any) -> Any:
    """An annotation as a type; the source of installed code, which Python evaluates, once for each parameter."""
    holder = types.SimpleNamespace(__annotations__={name: annotation})
    names = getattr(inspect.unwrap(function), "__globals__", {})
    return get_type_hints(holder, globalns=names, include_extras=True)[name]


def _documentation(factory: Callable[..., Any]) -> dict[str, str]:
    """Parameter name to its documentation, nearest class first."""
    factory = _unwrapped(factory)
    owners = factory.__mro__ if isinstance(factory, type) else (factory,)
    texts: dict[str, str] = {}
    for owner in owners:
        for documented in (owner, vars(owner).get("__init__") if isinstance(owner, type) else None):
            for parameter in docstring_parser.parse(getattr(documented, "__doc__", None) or "").params:
                texts.setdefault(parameter.arg_name, " ".join((parameter.description or "").split()))
    return texts
