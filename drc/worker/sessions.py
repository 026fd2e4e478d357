"""Run sessions until told to stop: the one restart story of whatever reads or applies. A loop.

A session starts from what is durable and ends with an error or a stop. A trouble that passes by
itself is retried for ever, with a bounded backoff; one that needs a person ends the loop. An
operator may pause a worker, and what must not meet a session may hold it: both end the session
once what is in flight is committed, and the next one starts from what is durable.
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
_POLL_S = 0.5  # how soon a stop is noticed in a pause


class Halt(threading.Event):
    """Set when a session is to end: this one, or all because the process stops."""

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
    """Whose turn it is: a session's, or of those who want none to run. Safe between threads.

    ``halt`` is what a session watches.
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
        """Return what the operator wants; set it to have it so."""
        return self._wanted

    @wanted.setter
    def wanted(self, wanted: Wanted) -> None:
        with self._changed:
            self._wanted = wanted
            self._update()

    def rest(self, patience_s: float) -> bool:
        """Wait until no session runs; return False when one does still."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._running, patience_s)

    def wait(self) -> None:
        """Wait until a session may run, but not for long: the process may stop."""
        with self._changed:
            self._changed.wait_for(lambda: not self.halt.is_set(), _POLL_S)

    @contextlib.contextmanager
    def session(self) -> Iterator[bool]:
        """Take the turn for a session; yields False when it is not to be had for now."""
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
        """Keep sessions from running in this block; what is in flight is committed before.

        :raises TransientError: the session did not end in time.
        """
        with self._changed:
            self._holders += 1
            self._update()
            rested = self.rest(patience_s)
        try:
            if not rested:
                raise TransientError(
                    f"what is in flight did not end within {patience_s:.0f} s",
                    hint="`drc status` tells what holds it; then try again",
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
    """A stream or a publisher; ``progress`` is what others may read at any time."""

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
        self.epoch: Callable[[], int] = lambda: 0  # of the lease; it raises where there is none
        self.progress = progress
        self._backoff_max_s = backoff_max_s

    def _session(self) -> None:
        """Start from what is durable and work until the turn ends.

        :raises DrcError: what ended it.
        """
        raise NotImplementedError

    def run(self) -> None:
        """Run sessions until stopped.

        :raises DrcError: something that a person must mend, with the site it runs at.
        """
        backoff = _BACKOFF_FIRST_S
        while not self._stop.is_set():
            before = self.progress.steps
            try:
                with self.permit.session() as ours:
                    if ours:
                        self.progress.connecting()
                        self.epoch()
                        self._session()
                if not ours:
                    self.progress.held(*self.permit.wanted)
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
