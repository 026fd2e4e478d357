"""How far behind a stream is, also while it stands still. Pure.

What the origin has executed and the target has not decided is behind, as of the last look at the
origin. Its age is known at once for what has been read, as the binlog tells the commit time. The
rest was committed between two looks: the one that first found it, and the one before. If the last
that is decided was committed between them too, as under load, what follows it is as old.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from drc.gtid import GtidSet
from drc.source.resume import backlog

_LOOKS_MAX = 512  # then every other one is forgotten: ages get coarser, never younger than true


class Behind(NamedTuple):
    """The age of the oldest undecided transaction, how many there are, and about how large."""

    seconds: float | None = None
    transactions: int | None = None
    bytes: int | None = None


class Undecided(NamedTuple):
    """GTIDs that are executed at the origin and undecided here, and since when any of them was."""

    gtids: GtidSet
    since_us: int


class Ages:
    """Tell since when something undecided has been executed at the origin."""

    def __init__(self) -> None:
        self._looks: deque[tuple[int, GtidSet]] = deque()
        self._clean_us: int | None = (
            None  # the newest look that found nothing that is undecided now
        )

    def look(
        self,
        at_us: int,
        executed: GtidSet,
        applied: GtidSet,
        foreign: AbstractSet[bytes],
        decided_us: int | None = None,
    ) -> Undecided:
        """Return the undecided GTIDs, and since when, by our clock, any of them was executed.

        :param decided_us: when the last that is decided was committed.
        """
        if not self._looks or executed != self._looks[-1][1]:
            self._looks.append((at_us, executed))
        elif not backlog(executed, applied, foreign):
            self._looks[-1] = at_us, executed
        while len(self._looks) > 1 and not backlog(self._looks[0][1], applied, foreign):
            self._clean_us, _ = self._looks.popleft()
        if len(self._looks) > _LOOKS_MAX:
            self._looks = deque(list(self._looks)[::2])
        since_us = self._looks[0][0]
        if decided_us is not None and (self._clean_us or since_us) < decided_us < since_us:
            since_us = decided_us
        return Undecided(backlog(executed, applied, foreign), since_us)


def measure(
    undecided: GtidSet,
    *,
    now_us: int,
    seen_us: int,
    read_us: int | None,
    waiting_bytes: int,
    mean_bytes: float | None,
) -> Behind:
    """Return how far behind a stream is.

    :param now_us: when the origin was looked at; while it does not answer, the present.
    :param seen_us: since when any of it has been executed, by our clock.
    :param read_us: when the oldest of it that has been read was committed, by our clock.
    :param waiting_bytes: read and not yet taken.
    :param mean_bytes: of the transactions before, None if there were none.
    """
    count = len(undecided)
    if not count:
        return Behind(0.0, 0, 0)
    since = seen_us if read_us is None else min(seen_us, read_us)
    size = None if mean_bytes is None else max(waiting_bytes, int(count * mean_bytes))
    return Behind(round(max(0, now_us - since) / 1e6, 3), count, size)
