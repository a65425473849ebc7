"""Options come from signatures: what a component's author wrote is what a config may set, strictly."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from medtrans.errors import SetupError
from medtrans.plugins.hookspecs import Component
from medtrans.plugins.interfaces import Ramp
from medtrans.plugins.options import build, check_options, options_of, summary_of


class Base:
    """The base.

    Args:
        depth: how deep.
    """

    def __init__(self, in_channels: int, *, depth: int = 3) -> None:
        self.in_channels, self.depth = in_channels, depth


class Network(Base):
    """A network for tests. It does nothing.

    Args:
        in_channels: of the source.
        width: channels,
            at level 0.
        mode: how.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        width: Annotated[int, Field(ge=1)] = 16,
        growth: tuple[int, ...] = (8, 16),
        mode: Literal["a", "b"] = "a",
        copy: bool = False,
        weight: float | Ramp = 1.0,
        file: Path | None = None,
        **others: Any,
    ) -> None:
        super().__init__(in_channels, **others)
        self.width, self.growth, self.mode, self.copy, self.weight, self.file = width, growth, mode, copy, weight, file


NETWORK = Component("network", Network)


def test_options_follow_the_signature_and_its_bases_without_facts_and_are_documented_by_docstrings() -> None:
    docs = {option.name: option.doc for option in options_of(NETWORK, "generator")}
    assert list(docs) == ["width", "growth", "mode", "copy", "weight", "file", "depth"]
    assert (docs["width"], docs["depth"]) == ("channels, at level 0.", "how deep.")
    assert summary_of(NETWORK) == "A network for tests. It does nothing."
    fixed = options_of(Component("n", Network, fixed={"width": 4}), "generator")
    assert [option.name for option in fixed] == list(docs)[1:]


def test_checked_options_have_the_signatures_types() -> None:
    values = {"growth": [4, 4, 8], "weight": {"start": 0.0, "end": 1.0, "steps": 10}, "file": "a/b.pt", "depth": 5}
    checked, faults = check_options(NETWORK, "generator", values)
    assert faults == []
    assert checked == {"growth": (4, 4, 8), "weight": Ramp(0.0, 1.0, 10), "file": Path("a/b.pt"), "depth": 5}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": True}, "whole number, found True"),
        ({"width": "4"}, "whole number, found '4'"),
        ({"width": 0}, ">= 1, found 0"),
        ({"mode": "c"}, "'a' or 'b', found 'c'"),
        ({"copy": 1}, "true or false, found 1"),
        ({"growth": 3}, "list, found 3"),
        ({"widht": 3}, "'width'"),
    ],
)
def test_a_wrong_option_is_a_fault_that_says_what_was_expected(options: dict[str, Any], message: str) -> None:
    _, faults = check_options(NETWORK, "generator", options)
    assert [fault.path for fault in faults] == [tuple(options)]
    assert message in faults[0].message


def test_all_faults_are_found_at_once_also_that_a_required_option_is_missing() -> None:
    def needs(*, name: str, depth: int = 3) -> None: ...

    _, faults = check_options(Component("r", needs), "callback", {"depth": "c", "nonsense": 1})
    assert {fault.path for fault in faults} == {("name",), ("depth",), ("nonsense",)}


def test_build_passes_the_facts_that_the_signature_names() -> None:
    network = build(NETWORK, "generator", {"width": 8}, {"in_channels": 2, "out_channels": 1, "patch_size": (8, 8, 8)})
    assert (network.in_channels, network.width) == (2, 8)


def test_a_factory_that_refuses_its_options_is_named() -> None:
    def refuses(*, side: int = 3) -> None:
        raise ValueError(f"side {side} is odd")

    with pytest.raises(SetupError, match=r"generator odd .*side 3 is odd"):
        build(Component("odd", refuses), "generator", {}, {})


def test_an_annotation_that_only_a_type_checker_knows_is_explained() -> None:
    def hidden(*, side: NotThere = 3) -> None:  # noqa: F821 -- what the test is about
        """Nothing."""

    with pytest.raises(SetupError, match=r"hidden.*'side'.*TYPE_CHECKING"):
        options_of(Component("hidden", hidden), "generator")
