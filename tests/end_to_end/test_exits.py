"""A plugin that ends the program has not ended the work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import medtrans
from medtrans.errors import SetupError


@pytest.mark.parametrize("code", [0, None, 3])
def test_a_method_that_calls_for_the_end_of_the_program_fails_the_run(
    tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch, code: int | None
) -> None:
    def leave(*_: object) -> None:
        raise SystemExit(code)

    monkeypatch.setattr(medtrans.PairedMethod, "training_step", leave)
    with pytest.raises(SetupError, match=rf"test_exits.py:\d+: .*SystemExit: {code}"):
        medtrans.run(tiny)
    assert '"state": "failed"' in (Path(tiny["output_dir"]) / "status.json").read_text()
