"""The canary: a row that each site writes, that must land at every peer and never come back.

Pure: applied transactions in, fate of the canaries out.

1. A canary shows the state of the whole way, also while users write nothing, because a canary is
   read, logged and applied in a batch like every other change.
2. Two idle sites stay silent unless ``monitor.canary_s`` is set, because time alone makes a
   canary (``monitor/beat.py``): neither a landed canary nor a missing canary makes another.
3. A stream brings the canary of its origin alone. A canary of another site shows that
   the origin ships replicated transactions again: canaries, and so everything else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

from drc.binlog import events as ev
from drc.binlog.events import TABLE_MAP, parse_table_map, u64
from drc.binlog.transaction import RawTransaction
from drc.names import CANARY, map_name
from drc.rows.images import Walkers, column_walkers
from drc.worker.snapshot import CanarySnapshot

_CANARY = map_name(CANARY)
_COLUMNS = ("site", "sent_us")


class Sent(NamedTuple):
    """A canary: the site that sent the row, and the time by the clock of that site's server."""

    site: str
    sent_us: int


class Canary:
    """The fate of the canaries in a stream from ``origin``.

    :param every_s: interval in seconds at which the origin sends a canary.
    """

    def __init__(self, origin: str, every_s: float) -> None:
        self._origin, self._every_s = origin, every_s
        self._sent_us: int | None = None
        self._landed_us: int | None = None
        self._bounced = 0

    def passed(
        self, transactions: Iterable[RawTransaction], landed_us: int, offset_us: int
    ) -> None:
        """Look for canaries in ``transactions``, which are visible since ``landed_us``.

        :param offset_us: microseconds by which the origin's clock is ahead of the daemon's.
        """
        for transaction in transactions:
            if not _begins_with_canary(transaction):
                continue
            for sent in read(transaction):
                if sent.site == self._origin:
                    self._sent_us, self._landed_us = sent.sent_us - offset_us, landed_us
                else:
                    self._bounced += 1

    def snapshot(self) -> CanarySnapshot:
        """Return the newest canary that landed, and the number that bounced."""
        return CanarySnapshot(
            every_s=self._every_s,
            sent_us=self._sent_us,
            landed_us=self._landed_us,
            bounced=self._bounced,
        )


def _begins_with_canary(transaction: RawTransaction) -> bool:
    """Return whether the first row change is of a canary; runs for every transaction."""
    if not transaction.events:
        return False
    data, at = transaction.data, transaction.events[0]
    return data[at + 27 : at + 40] == _CANARY and data[at + 4] == TABLE_MAP


def read(transaction: RawTransaction) -> Iterator[Sent]:
    """Yield the canaries of a transaction that begins with a canary, after the change."""
    data = transaction.data
    walkers: Walkers | None = None
    for kind, at, end in transaction.spans():
        if kind == TABLE_MAP:
            walkers = _walkers(bytes(data[at + ev.HEADER_BYTES : end]))
        elif walkers is not None and kind in (ev.WRITE_ROWS, ev.UPDATE_ROWS):
            yield _last(walkers, data, at, end, pair=kind == ev.UPDATE_ROWS)


def _last(walkers: Walkers, data: bytes, at: int, end: int, *, pair: bool) -> Sent:
    """Return the canary in the last row image of an event.

    :param pair: True if the event has two images for each row, as an update has.
    """
    _, body = ev.rows_header(data, at)
    size = walkers.null_bytes
    image = ev.lenenc(data, body)[1] + size * (1 + pair)
    values: Any = None
    while image < end:
        image, values = walkers[bytes(data[image : image + size])](data, image)
    site, sent_us = values
    return Sent(bytes(site[1:]).decode(), u64(sent_us, 0)[0])


@lru_cache(maxsize=4)  # the table's definition changes with `drc migrate` alone
def _walkers(body: bytes) -> Walkers | None:
    table = parse_table_map(body)
    ordinals = {column.name: i for i, column in enumerate(table.columns)}
    if table.name != CANARY or not all(name in ordinals for name in _COLUMNS):
        return None
    return column_walkers(table, [ordinals[name] for name in _COLUMNS])
