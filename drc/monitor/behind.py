"""Behind: measures how far behind a stream is, also while the stream stands still. Pure.

A stream is behind by the transactions that the origin has executed and the target has not decided,
as of the last look at the origin. The age of a transaction that was read is the commit time in the
binlog. A transaction that was not read was committed between two looks: the look that first found
the transaction, and the look before. If the last decided transaction was committed between the
same two looks, as under load, the undecided transactions after it count as equally old.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from drc.gtid import GtidSet
from drc.source.resume import backlog
from drc.worker.snapshot import Behind

_LOOKS_MAX = 512  # then every other look is forgotten: ages get coarser, never younger than true


class Undecided(NamedTuple):
    """GTIDs executed at the origin and undecided here; when the oldest was executed."""

    gtids: GtidSet
    since_us: int


class Ages:
    """The looks at an origin, from which the age of the oldest undecided GTID follows."""

    def __init__(self) -> None:
        self._looks: deque[tuple[int, GtidSet]] = deque()
        # The newest look whose executed GTIDs are all decided now.
        self._clean_us: int | None = None

    def look(
        self,
        at_us: int,
        executed: GtidSet,
        decided: GtidSet,
        foreign: AbstractSet[bytes],
        decided_us: int | None = None,
    ) -> Undecided:
        """Take in a look at the origin; return the undecided GTIDs with the age of the oldest.

        All times are microseconds since the epoch by this daemon's clock.

        :param executed: the origin's ``gtid_executed`` at ``at_us``.
        :param decided: the decided set at the target.
        :param foreign: server UUIDs of all other sites.
        :param decided_us: when the last decided transaction was committed.
        """
        if not self._looks or executed != self._looks[-1][1]:
            self._looks.append((at_us, executed))
        elif not backlog(executed, decided, foreign):
            self._looks[-1] = at_us, executed
        while len(self._looks) > 1 and not backlog(self._looks[0][1], decided, foreign):
            self._clean_us, _ = self._looks.popleft()
        if len(self._looks) > _LOOKS_MAX:
            self._looks = deque(list(self._looks)[::2])
        since_us = self._looks[0][0]
        if decided_us is not None and (self._clean_us or since_us) < decided_us < since_us:
            since_us = decided_us
        return Undecided(backlog(executed, decided, foreign), since_us)


def measure(
    undecided: GtidSet,
    *,
    now_us: int,
    executed_us: int,
    read_us: int | None,
    waiting_bytes: int,
    mean_bytes: float | None,
) -> Behind:
    """Return how far behind a stream is.

    All times are microseconds since the epoch by this daemon's clock.

    :param now_us: when the origin answered last; the present while the origin does not answer.
    :param executed_us: when the oldest undecided transaction was executed, by the looks.
    :param read_us: when the oldest transaction that was read and not decided was committed.
    :param waiting_bytes: bytes of transactions that were read and not yet taken.
    :param mean_bytes: mean size of earlier transactions, None before the first.
    """
    count = len(undecided)
    if not count:
        return Behind(0.0, 0, 0)
    since = executed_us if read_us is None else min(executed_us, read_us)
    size = None if mean_bytes is None else max(waiting_bytes, int(count * mean_bytes))
    return Behind(round(max(0, now_us - since) / 1e6, 3), count, size)
