"""The learning rates of published systems, epoch by epoch, as the configs of the packages beside medtrans give them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from medtrans.schedules import SCHEDULES

PLUGINS = Path(__file__).parents[1] / "plugins"


def settings(path: Path) -> dict[str, Any]:
    """The training settings of a config over those of the one it extends."""
    own = yaml.safe_load(path.read_text())
    below = settings(path.parent / own["extends"][0]) if "extends" in own else {}
    return {**below, **own["train"]}


def factors(train: dict[str, Any], epoch: int) -> list[float]:
    """The shares of the rate at the first and the last step of an epoch, from 0 on."""
    schedule = SCHEDULES[train["schedule"]["name"]](**train["schedule"]["options"])
    length = train["epoch_steps"]
    steps = (epoch * length, (epoch + 1) * length - 1)
    return [schedule.factor(step, train["steps"], length) for step in steps]


@pytest.mark.parametrize(
    ("config", "full", "falling"), [("resvit_stage1.yaml", 50, 50), ("resvit_stage2.yaml", 25, 25)]
)
def test_resvit_ends_with_an_epoch_at_zero(config: str, full: int, falling: int) -> None:
    train = settings(PLUGINS / "medtrans-resvit" / "configs" / config)
    assert train["steps"] == (full + falling) * train["epoch_steps"]
    for epoch in range(full + falling):
        expected = 1 - max(0, epoch + 2 - full) / (falling + 1)
        assert factors(train, epoch) == pytest.approx([expected, expected], abs=1e-12)
    assert factors(train, full - 2) == [1, 1]
    assert factors(train, full - 1) == pytest.approx([falling / (falling + 1)] * 2)
    assert factors(train, full + falling - 1) == pytest.approx([0, 0], abs=1e-12)


def test_ptnet3d_ends_with_an_epoch_at_a_thousandth() -> None:
    train = settings(PLUGINS / "medtrans-ptnet3d" / "configs" / "ptnet3d.yaml")
    full = falling = 1000
    assert train["steps"] == (full + falling) * train["epoch_steps"]
    for epoch in range(full + falling):
        expected = 1 - max(0, epoch - full) / falling
        assert factors(train, epoch) == pytest.approx([expected, expected], abs=1e-12)
    assert factors(train, full) == [1, 1]
    assert factors(train, full + falling - 1) == pytest.approx([0.001, 0.001])
