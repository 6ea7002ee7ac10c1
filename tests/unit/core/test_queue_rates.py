"""Counting how often something happens a second."""

from __future__ import annotations

import pytest

from perdure.core.queues.rates import WINDOW_S, Rate


def test_a_steady_rate_is_told_as_it_is() -> None:
    rate = Rate(1000.0)
    for tick in range(1000):
        rate.count(1000.0 + tick / 10)
    assert rate.per_second(1100.0) == pytest.approx(10, rel=0.02)


def test_what_is_longer_ago_than_the_window_is_forgotten() -> None:
    rate = Rate(0.0)
    for _ in range(100):
        rate.count(1.0)
    assert rate.per_second(10.0) == pytest.approx(10)
    assert rate.per_second(1.0 + WINDOW_S + 3) == 0
    rate.count(1e9)
    assert rate.per_second(1e9) == pytest.approx(1 / (WINDOW_S - 3 + 1e9 % 3))
