"""The throttle: a stream applies at the configured rate and no faster."""

from __future__ import annotations

import threading

import pytest

from drc.apply.throttle import Throttle


def test_a_throttle_gives_out_its_rate_and_no_more() -> None:
    now = [0.0]

    class Stop(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            now[0] += timeout or 0
            return False

    throttle, gone = Throttle(100, lambda: now[0]), 0
    while now[0] < 10:
        count = min(throttle.wait(Stop()), 7)
        throttle.spend(count)
        gone += count
    assert 990 <= gone <= 1020
    throttle.spend(100)  # after a large transaction the throttle waits
    before = now[0]
    throttle.wait(Stop())
    assert now[0] - before == pytest.approx(1, abs=0.2)
    assert Throttle(0).wait(Stop()) > 1_000_000
