"""Run sessions until told to stop: the one restart story of whatever reads or applies. A loop.

A session starts from what is durable and ends with an error or a stop. A trouble that passes by
itself is retried for ever, with a bounded backoff; one that needs a person ends the loop.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from drc.errors import DrcError, TransientError

_BACKOFF_FIRST_S = 0.1


class Progress(Protocol):
    """What is told of sessions; ``steps`` grows with what they get done."""

    @property
    def steps(self) -> int: ...
    def connecting(self) -> None: ...
    def broken(self, error: DrcError) -> None: ...
    def stopped(self, error: DrcError | None) -> None: ...


def repeat(
    session: Callable[[], None],
    stop: threading.Event,
    progress: Progress,
    *,
    site: str,
    backoff_max_s: float,
) -> None:
    """Call ``session`` until ``stop`` is set.

    :raises DrcError: something that a person must mend, with ``site``.
    """
    backoff = _BACKOFF_FIRST_S
    while not stop.is_set():
        before = progress.steps
        progress.connecting()
        try:
            session()
        except TransientError as error:
            if progress.steps > before:
                backoff = _BACKOFF_FIRST_S
            progress.broken(error)
            stop.wait(backoff)
            backoff = min(backoff * 2, backoff_max_s)
        except DrcError as error:
            error.site = error.site or site
            progress.stopped(error)
            raise
    progress.stopped(None)
