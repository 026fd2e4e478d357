"""Run sessions until told to stop: the one restart story of whatever reads or applies. A loop.

A session starts from what is durable and ends with an error or a stop. A trouble that passes by
itself is retried for ever, with a bounded backoff; one that needs a person ends the loop.
"""

from __future__ import annotations

import threading

from drc.errors import DrcError, TransientError
from drc.monitor.progress import SessionProgress

_BACKOFF_FIRST_S = 0.1


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
        self.progress = progress
        self._backoff_max_s = backoff_max_s

    def _session(self) -> None:
        """Start from what is durable and work until stopped.

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
            self.progress.connecting()
            try:
                self._session()
            except TransientError as error:
                if self.progress.steps > before:
                    backoff = _BACKOFF_FIRST_S
                self.progress.broken(error)
                self._stop.wait(backoff)
                backoff = min(backoff * 2, self._backoff_max_s)
            except DrcError as error:
                error.site = error.site or self._site
                self.progress.stopped(error)
                raise
        self.progress.stopped(None)
