"""Throttle: bounds the transactions a second, so that catching up leaves room for local users."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

_BURST_S = 0.1
_UNBOUNDED = 1 << 62


class Throttle:
    """Release transactions at an even rate.

    :param rate: transactions a second, for example ``500``; 0: no bound.
    :param clock: returns seconds since any fixed time.
    """

    def __init__(self, rate: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._clock = clock
        self._burst = max(1.0, rate * _BURST_S)
        self._left = self._burst
        self._at = clock()

    def wait(self, stop: threading.Event) -> int:
        """Wait until a transaction may go, or until ``stop``; return how many may, at least 1."""
        if not self._rate:
            return _UNBOUNDED
        self._refill()
        if self._left < 1:
            stop.wait((1 - self._left) / self._rate)
            self._refill()
        return max(1, int(self._left))

    def spend(self, transactions: int) -> None:
        """Count transactions that went; an excess makes the next wait longer."""
        self._left -= transactions

    def _refill(self) -> None:
        now = self._clock()
        self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
