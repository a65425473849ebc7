"""The pytest fixture of the kit; a test module asks for it by `pytest_plugins = ["medtrans.testing.fixtures"]`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import pytest

from medtrans.testing.kits import kit_of
from medtrans.testing.rules import Verdict
from medtrans.testing.trial import ComponentLike

__all__ = ["Conforms", "conforms"]


class Conforms(Protocol):
    """Tries a component against the contract of its kind."""

    def __call__(self, kind: str, component: ComponentLike, **settings: Any) -> tuple[Verdict, ...]:
        """The verdicts; fails the test where a rule is broken.

        Args:
            kind: in the singular, such as "generator".
            component: a `Component`, the class itself, or a name as a config writes it.
            **settings: as `medtrans.testing.check_<kind>` takes them.
        """


@pytest.fixture
def conforms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Conforms:
    """`conforms("generator", "swin:swin")` fails where a rule is broken; it runs in a folder of its own."""

    def check(kind: str, component: ComponentLike, **settings: Any) -> tuple[Verdict, ...]:
        monkeypatch.chdir(tmp_path)
        return kit_of(kind).check(component, **settings)

    return check
