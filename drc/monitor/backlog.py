"""What one site has still to apply of another, from GTID sets. Pure."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from drc.gtid import GtidSet
from drc.names import TAG


def native(executed: GtidSet, foreign: AbstractSet[bytes]) -> GtidSet:
    """Return the transactions that began at this site.

    Replicated rows are tagged and replicated DDL has its origin's GTID; below 8.3 there are no
    tags, and replicated rows cannot be told apart here.

    :param foreign: server UUIDs of all other sites.
    """
    return executed - executed.with_tag(TAG) - executed.of_uuids(foreign)


def backlog(executed: GtidSet, applied: GtidSet, foreign: AbstractSet[bytes]) -> GtidSet:
    """Return the origin's own transactions that are not decided at the target.

    :param executed: the origin's ``gtid_executed``.
    :param applied: what the target knows as decided.
    """
    return native(executed, foreign) - applied
