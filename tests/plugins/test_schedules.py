"""Learning rates and ramps are functions of the step alone."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medtrans.plugins.interfaces import Ramp, value_at
from medtrans.plugins.optimizers import OPTIMIZERS, Constant, Cosine, Linear, MultiStep


def factors(schedule: object, steps: list[int], *, of: int = 100, epoch: int = 10) -> list[float]:
    return [round(schedule.factor(step, of, epoch), 6) for step in steps]


def test_linear_begins_after_its_delay_and_ends_at_its_end() -> None:
    assert factors(Linear(), [0, 50, 100]) == [1, 0.5, 0]
    assert factors(Linear(delay=50, end=0.1), [0, 50, 75, 100, 150]) == [1, 1, 0.55, 0.1, 0.1]
    assert factors(Linear(every="epoch"), [0, 9, 10, 19, 20]) == [1, 1, 0.9, 0.9, 0.8]
    assert factors(Linear(delay=20, length=40), [20, 40, 60, 99]) == [1, 0.5, 0, 0]
    assert factors(Linear(delay=50, length=100), [50, 99]) == [1, 0.51]


@given(st.integers(2, 200), st.integers(1, 200))
def test_a_line_says_the_rule_of_pix2pix_whose_last_epoch_is_at_zero(full: int, falling: int) -> None:
    schedule = Linear(delay=(full - 2) * 7, length=(falling + 1) * 7, every="epoch")
    for epoch in (0, full - 2, full - 1, full, full + falling - 1):
        expected = 1 - max(0, epoch + 2 - full) / (falling + 1)
        found = [schedule.factor(step, (full + falling) * 7, 7) for step in (epoch * 7, epoch * 7 + 6)]
        assert found == pytest.approx([expected] * 2)


def test_multistep_cosine_and_constant() -> None:
    assert factors(MultiStep(milestones=(20, 40)), [19, 20, 40]) == [1, 0.5, 0.25]
    assert factors(MultiStep(milestones=(2, 4), every="epoch"), [19, 20, 39, 40]) == [1, 0.5, 0.5, 0.25]
    assert factors(Constant(), [0, 50, 99]) == [1, 1, 1]
    assert factors(Cosine(), [0, 50, 100]) == [1, 0.5, 0]
    assert factors(Cosine(end=0.5), [0, 100]) == [1, 0.5]


@given(st.sampled_from([Constant(), Linear(), Cosine(), MultiStep(milestones=(3,))]), st.integers(0, 1000))
def test_no_schedule_leaves_the_range_from_0_to_1(schedule: Linear, step: int) -> None:
    assert 0 <= schedule.factor(step, 500, 7) <= 1


def test_a_ramp_waits_then_rises_then_stays() -> None:
    ramp = Ramp(1.0, 3.0, 10, delay=5)
    assert [ramp.at(step) for step in (0, 5, 10, 15, 100)] == [1, 1, 2, 3, 3]
    assert Ramp(0.0, 1.0, 20, every="epoch").at(19, epoch_steps=10) == 0.5
    assert value_at(0.25, 7) == 0.25


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_each_optimiser_minimises(name: str) -> None:
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = OPTIMIZERS[name](lr=0.1).make([weight])
    for _ in range(200):
        optimizer.zero_grad()
        weight.square().sum().backward()
        optimizer.step()
    assert weight.abs().max() < 0.1
