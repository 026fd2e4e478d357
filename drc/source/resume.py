"""From where on a binlog is read. Pure."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Set as AbstractSet

from drc.errors import DataError, ReseedError
from drc.gtid import GtidSet
from drc.names import TAG


def native_set(gtids: GtidSet, foreign: AbstractSet[bytes]) -> GtidSet:
    """Return the transactions that began at this site.

    Replicated rows are tagged and replicated DDL has its origin's GTID; below 8.3 there are no
    tags, and replicated rows cannot be told apart here.

    :param foreign: server UUIDs of all other sites.
    """
    return gtids - gtids.with_tag(TAG) - gtids.of_uuids(foreign)


def resume_set(
    applied: GtidSet,
    executed: GtidSet,
    purged: GtidSet,
    foreign: AbstractSet[bytes],
    given_up: GtidSet | None = None,
) -> GtidSet:
    """Return the GTIDs not to ask for.

    What the source has purged can only be left out if it is not ours to ship: replicated
    transactions are tagged, or carry another site's GTIDs.

    :param applied: what is decided: the ledger's set, or what a topic covers.
    :param executed: the source's ``gtid_executed``.
    :param given_up: what an operator wants skipped: it may be purged.
    :raises ReseedError: transactions we need are purged, by name.
    :raises DataError: the source does not have what it has shipped: it lost transactions.
    """
    lost = applied - executed
    if lost:
        raise DataError(
            f"the source no longer has transactions that were applied here: {lost}",
            stage="read",
            hint="it lost its newest binlog (sync_binlog = 1 prevents that): compare and repair",
        )
    missing = native_set(purged - applied, foreign)
    if given_up:
        missing = missing - given_up
    if missing:
        raise ReseedError(
            f"the source has purged transactions that were not applied here: {missing}",
            stage="read",
            hint="restore those binlogs; or copy the data anew and set replicate.start to the"
            " GTID set of the copy",
        )
    return applied | purged


def start_set(
    start: str,
    newest: Callable[[], GtidSet],
    foreign: Callable[[], AbstractSet[bytes]],
) -> GtidSet:
    """Return the GTIDs that a new stream treats as decided (``replicate.start``).

    :param start: ``now``, ``earliest``, or a GTID set. One set serves all streams, so the part of
        other sites is left out.
    :param newest: asked with ``now``: the end of the binlog or topic that is read.
    :param foreign: asked with a GTID set: server UUIDs of all other sites.
    """
    if start == "now":
        return newest()
    if start == "earliest":
        return GtidSet()
    given = GtidSet.parse(start)
    return given - given.of_uuids(foreign())


def backlog(executed: GtidSet, applied: GtidSet, foreign: AbstractSet[bytes]) -> GtidSet:
    """Return the origin's own transactions that are not decided at the target.

    :param executed: the origin's ``gtid_executed``.
    :param applied: what the target knows as decided.
    """
    return native_set(executed, foreign) - applied
