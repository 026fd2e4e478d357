"""The GTID set after which a binlog is read. Pure."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Set as AbstractSet

from drc.errors import DataError, ReseedError
from drc.gtid import GtidSet
from drc.names import TAG


def native_set(gtids: GtidSet, foreign: AbstractSet[bytes]) -> GtidSet:
    """Return the native GTIDs of a site.

    The GTIDs of replicated rows are tagged, and replicated DDL has the GTID of the origin. Servers
    below 8.3 have no tags: there the GTIDs of replicated rows are in the result, too.

    :param foreign: server UUIDs of all other sites, 16 bytes each.
    """
    return gtids - gtids.with_tag(TAG) - gtids.of_uuids(foreign)


def resume_set(
    already_decided: GtidSet,
    executed: GtidSet,
    purged: GtidSet,
    foreign: AbstractSet[bytes],
    given_up: GtidSet | None = None,
) -> GtidSet:
    """Return the GTIDs that the source must not send.

    Purged transactions can be left out only if drc would not ship these: replicated transactions
    are tagged, or have a GTID of another site.

    :param already_decided: the decided set of the ledger, or the covered set of a topic, for
        example ``3e11fa47-71ca-11e1-9e33-c80aa9429562:1-90``.
    :param executed: ``gtid_executed`` of the source.
    :param purged: ``gtid_purged`` of the source.
    :param foreign: server UUIDs of all other sites, 16 bytes each.
    :param given_up: GTIDs that an operator excluded: these may be purged.
    :raises ReseedError: transactions that the stream needs are purged; the error has the GTIDs.
    :raises DataError: the source lost transactions that it had shipped; the error has the GTIDs.
    """
    lost = already_decided - executed
    if lost:
        raise DataError(
            f"the source no longer has transactions that are decided here: {lost}",
            stage="read",
            hint="compare and repair the data: the source lost its newest binlog, which"
            " sync_binlog = 1 prevents",
        )
    missing = native_set(purged - already_decided, foreign)
    if given_up:
        missing = missing - given_up
    if missing:
        raise ReseedError(
            f"the source has purged transactions that are not decided here: {missing}",
            stage="read",
            hint="restore these binlogs; or copy the data again and set replicate.start to the"
            " GTID set of the copy",
        )
    return already_decided | purged


def start_set(
    start: str,
    newest: Callable[[], GtidSet],
    foreign: Callable[[], AbstractSet[bytes]],
) -> GtidSet:
    """Return the GTIDs that a new stream treats as decided (``replicate.start``).

    :param start: ``now``, ``earliest``, or a GTID set. A single set serves all streams, so GTIDs of
        other sites are left out.
    :param newest: returns the GTIDs at the end of the binlog or topic; called for ``now``.
    :param foreign: returns the server UUIDs of all other sites; called for a GTID set.
    """
    if start == "now":
        return newest()
    if start == "earliest":
        return GtidSet()
    given = GtidSet.parse(start)
    return given - given.of_uuids(foreign())


def backlog(executed: GtidSet, decided: GtidSet, foreign: AbstractSet[bytes]) -> GtidSet:
    """Return the native transactions of the origin that are not decided at the target.

    :param executed: ``gtid_executed`` of the origin.
    :param decided: the decided set at the target.
    """
    return native_set(executed, foreign) - decided
