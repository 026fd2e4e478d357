"""Workers: a worker runs sessions until told to stop, and always starts in the same way. A loop.

A session starts from durable state and ends with an error or a stop. A TransientError is retried
for ever, with a bounded backoff; any other error needs an operator and ends the loop. An operator
may pause a worker, and a command that no session may overlap withholds the permit. In both cases
the session first commits the work in flight, then ends; the next session starts from durable
state again.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from drc.errors import DrcError, TransientError
from drc.worker.progress import SessionProgress
from drc.worker.wanted import Wanted

_BACKOFF_FIRST_S = 0.1
_POLL_S = 0.5  # the longest time until a paused worker notices a stop


class Halt(threading.Event):
    """An event that is set when a session must end, alone or because the process stops."""

    def __init__(self, stop: threading.Event) -> None:
        super().__init__()
        self._stop = stop

    def is_set(self) -> bool:
        return super().is_set() or self._stop.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self.is_set():
            left = _POLL_S if deadline is None else min(_POLL_S, deadline - time.monotonic())
            if left <= 0:
                break
            super().wait(left)
        return self.is_set()


class Permit:
    """The permission of a worker to run a session. Safe between threads.

    A session may run while the operator wants the worker to run and nobody withholds the permit.
    A session watches ``halt``, which is set as soon as the session must end.
    """

    def __init__(self, stop: threading.Event) -> None:
        self.halt = Halt(stop)
        self._stop = stop
        self._changed = threading.Condition()
        self._wanted = Wanted()
        self._holders = 0
        self._running = False

    @property
    def wanted(self) -> Wanted:
        """Return the state that the operator wants; setting this changes the permit."""
        return self._wanted

    @wanted.setter
    def wanted(self, wanted: Wanted) -> None:
        with self._changed:
            self._wanted = wanted
            self._update()

    def rest(self, patience_s: float) -> bool:
        """Wait until no session runs; return False if a session still runs after ``patience_s``."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._running, patience_s)

    def wait(self) -> None:
        """Wait until a session may run, at most half a second, as the process may stop."""
        with self._changed:
            self._changed.wait_for(lambda: not self.halt.is_set(), _POLL_S)

    @contextlib.contextmanager
    def session(self) -> Iterator[bool]:
        """Run a session in this block; yields False when no session may run now."""
        with self._changed:
            self._running = not self.halt.is_set()
        try:
            yield self._running
        finally:
            with self._changed:
                self._running = False
                self._changed.notify_all()

    @contextlib.contextmanager
    def withheld(self, patience_s: float) -> Iterator[None]:
        """Keep sessions from running in this block; the work in flight is committed before.

        :raises TransientError: the session did not end within ``patience_s``.
        """
        with self._changed:
            self._holders += 1
            self._update()
            rested = self.rest(patience_s)
        try:
            if not rested:
                raise TransientError(
                    f"cannot interrupt the session: the work in flight did not end within"
                    f" {patience_s:.0f} s",
                    hint="run `drc status`, which names the holder, then try again",
                )
            yield
        finally:
            with self._changed:
                self._holders -= 1
                self._update()

    def _update(self) -> None:
        if self._holders or self._wanted.state != "running":
            self.halt.set()
        else:
            self.halt.clear()
        self._changed.notify_all()


class Worker:
    """A stream, publisher or watcher; other threads may read ``progress`` at any time."""

    def __init__(
        self,
        name: str,
        site: str,
        stop: threading.Event,
        progress: SessionProgress,
        backoff_max_s: float,
    ) -> None:
        self.name = name
        self._site = site
        self._stop = stop
        self.permit = Permit(stop)
        self.epoch: Callable[[], int] = lambda: 0  # of the lease; raises an error without a lease
        self.progress = progress
        self._backoff_max_s = backoff_max_s

    def _session(self) -> None:
        """Start from durable state and work until ``permit.halt`` is set.

        :raises DrcError: the error that ended the session.
        """
        raise NotImplementedError

    def run(self) -> None:
        """Run sessions until stopped.

        :raises DrcError: an error that an operator must fix, with the worker's site.
        """
        backoff = _BACKOFF_FIRST_S
        while not self._stop.is_set():
            before = self.progress.steps
            try:
                with self.permit.session() as permitted:
                    if permitted:
                        self.progress.connecting()
                        self.epoch()
                        self._session()
                if not permitted:
                    self.progress.not_running(*self.permit.wanted)
                    self.permit.wait()
            except TransientError as error:
                if self.progress.steps > before:
                    backoff = _BACKOFF_FIRST_S
                self.progress.broken(error)
                self.permit.halt.wait(backoff)
                backoff = min(backoff * 2, self._backoff_max_s)
            except DrcError as error:
                error.site = error.site or self._site
                self.progress.stopped(error)
                raise
        self.progress.stopped(None)
