"""Threads of the demo: work at a pace until stopped, and keep the error that ended the thread."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod

_CATCH_UP_S = 1.0


class Pace:
    """A rate; a late caller catches up, but only the ticks of the last second.

    :param per_second: how often :meth:`wait` returns; 0: :meth:`wait` returns at once.
    """

    def __init__(self, per_second: float) -> None:
        self._period_s = 1 / per_second if per_second else 0.0
        self._due = time.monotonic()

    def wait(self, stop: threading.Event) -> None:
        """Wait for the next tick, or until stopped."""
        now = time.monotonic()
        self._due = max(self._due + self._period_s, now - _CATCH_UP_S)
        if self._period_s and (early := self._due - now) > 0:
            stop.wait(early)


class Load(ABC):
    """A thread of the demo that works until stopped."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    @abstractmethod
    def work(self, stop: threading.Event) -> None:
        """Work until stopped; an exception raised here is raised again by :meth:`check`."""

    def start(self, stop: threading.Event) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._run, args=(stop,), daemon=True)
        self._thread.start()

    def _run(self, stop: threading.Event) -> None:
        try:
            self.work(stop)
        except BaseException as error:
            self._error = error

    def join(self) -> None:
        """Wait until the thread ends; raise as :meth:`check` does."""
        if self._thread is not None:
            self._thread.join()
        self.check()

    def check(self) -> None:
        """Raise the exception that ended the thread, if there is any."""
        if self._error is not None:
            raise self._error
