"""Threads that work until told to stop, at a pace, and tell what ended them too early."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod

_CATCH_UP_S = 1.0


class Pace:
    """Keep to a rate: who is late catches up, but not for ever.

    :param per_second: how often :meth:`wait` returns; 0: at once.
    """

    def __init__(self, per_second: float) -> None:
        self._period_s = 1 / per_second if per_second else 0.0
        self._due = time.monotonic()

    def wait(self, stop: threading.Event) -> None:
        """Wait for the next turn, or until stopped."""
        now = time.monotonic()
        self._due = max(self._due + self._period_s, now - _CATCH_UP_S)
        if self._period_s and (early := self._due - now) > 0:
            stop.wait(early)


class Worker(ABC):
    """A thread of the demo."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    @abstractmethod
    def work(self, stop: threading.Event) -> None:
        """Work until stopped; whatever it raises, :meth:`check` raises."""

    def start(self, stop: threading.Event) -> None:
        """Begin to work."""
        self._thread = threading.Thread(target=self._run, args=(stop,), daemon=True)
        self._thread.start()

    def _run(self, stop: threading.Event) -> None:
        try:
            self.work(stop)
        except BaseException as error:
            self._error = error

    def join(self) -> None:
        """Wait for the thread to end; raise as :meth:`check`."""
        if self._thread is not None:
            self._thread.join()
        self.check()

    def check(self) -> None:
        """Raise what ended the thread before its time, if anything did."""
        if self._error is not None:
            raise self._error
