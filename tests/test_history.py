"""Curves stay small and evenly spread however long training is."""

from __future__ import annotations

from itertools import pairwise

from medtrans.history import History


def test_a_short_curve_keeps_every_point() -> None:
    history = History()
    for step in range(1, 11):
        history.add(step, {"l1": step / 10})
    assert history.curves["l1"] == [[float(step), step / 10] for step in range(1, 11)]


def test_a_long_curve_is_thinned_evenly() -> None:
    history = History()
    for step in range(20_000):
        history.add(step, {"l1": 0.0})
    steps = [point[0] for point in history.curves["l1"]]
    assert 1000 <= len(steps) <= 2001
    assert len({after - before for before, after in pairwise(steps)}) == 1
