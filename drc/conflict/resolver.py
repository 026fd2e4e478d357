"""What becomes of a change that may have concurrent writers. Pure.

The resolver is asked under locks, with an index that holds every earlier writer. It is total:
every change, every state of the row, every policy has an answer, and it is the same answer at
every site (``tests/simulation``).

1. A change wins against all its rivals or loses against one: ``(ets, site)`` decides, or the
   policy's preference. The order is total, so at each site the same write stays.
2. What wins is written whole, as its site had it; what loses leaves no trace but in the log.
3. A change that nothing explains (no rival, but the row is missing, or there already) shows that
   sites differed before. The newer state is written and the log says so.
4. What cannot be judged, or must not be judged by a rule, is left open: each site keeps its row.
5. Columns are merged in a row that is there: by a policy of their own, or each by its last writer.
   Where one side deleted the row, and not all that was merged into it went with it, what a merge
   gives would depend on the order: open.

Kinds are PostgreSQL 18's: manual, "Logical Replication Conflicts".
"""

from __future__ import annotations

from enum import Enum, StrEnum
from typing import NamedTuple

from drc.conflict.merge import taken
from drc.conflict.writes import Rivals, Write
from drc.policy import TablePolicy
from drc.rows.walk import ALL_COLUMNS


class Kind(StrEnum):
    """What met what."""

    INSERT_EXISTS = "insert_exists"
    UPDATE_ORIGIN_DIFFERS = "update_origin_differs"
    UPDATE_DELETED = "update_deleted"
    UPDATE_MISSING = "update_missing"
    DELETE_ORIGIN_DIFFERS = "delete_origin_differs"
    DELETE_MISSING = "delete_missing"
    MULTIPLE_UNIQUE_CONFLICTS = "multiple_unique_conflicts"


class Winner(StrEnum):
    """Whose state the row has now."""

    REMOTE = "remote"
    LOCAL = "local"
    MERGED = "merged"
    OPEN = "open"


class Action(Enum):
    """What to do to the row here."""

    KEEP = "keep"
    WRITE = "write"
    DELETE = "delete"
    ASK = "ask"  # the table's function, ``function.py``
    MERGE = "merge"  # the policy's columns by their own rules, the others kept or written


class Change(NamedTuple):
    """A row of a transaction: whether it has images, and whether the row is here now.

    With neither image it came and went in the transaction: what is left of it is a delete.
    ``changed`` are the columns that the transaction changed, as bits; ``owner`` is the site that
    owns the row, as :meth:`TablePolicy.owner` tells.
    """

    before: bool
    after: bool
    exists: bool
    changed: int = ALL_COLUMNS
    owner: str | None = ""


class Decision(NamedTuple):
    """What to do; ``kind`` is None where there was no conflict.

    ``takes`` tells which columns of a merge are the remote ones, as bits; those with a policy of
    their own have no part in it.
    """

    action: Action
    kind: Kind | None
    winner: Winner
    reason: str
    takes: int = ALL_COLUMNS


Order = tuple[int, int, str]


def resolve(change: Change, found: Rivals, ets: int, site: str, policy: TablePolicy) -> Decision:
    """Decide about one row of a transaction of ``site``.

    :param found: what the index says of the row's primary key.
    """
    kind = _kind(change, found)
    wanted = Action.WRITE if change.after else Action.DELETE
    if found.blind:
        return left_open(kind, "the index had to forget writes that may be concurrent")
    if not found.writes:
        if kind is None:
            return Decision(wanted, None, Winner.REMOTE, "")
        return Decision(wanted, kind, Winner.REMOTE, "no concurrent write explains this")
    assert kind is not None
    if policy.policy == "park":
        return left_open(kind, "the table's policy leaves it to a person")
    if change.owner is None:
        return left_open(kind, f"{policy.owner_column} is not the same in all versions of the row")
    owner = change.owner
    newest = max(found.newest, key=lambda write: _order(write.ets, write.origin, policy, owner))
    wins = _order(ets, site, policy, owner) > _order(newest.ets, newest.origin, policy, owner)
    if policy.function and len(found.writes) > 1:
        return left_open(kind, "a write met several, and the table's function is for two")
    if policy.function and (change.after or change.exists):
        return Decision(Action.ASK, kind, Winner.OPEN, f"{policy.function} decides")
    if policy.merges and (open_ := _unmergeable(change, found, kind, policy, wins=wins)):
        return open_
    if policy.merges and change.after and change.exists:
        takes = ALL_COLUMNS if wins else 0
        if policy.policy == "column_merge":
            takes = taken(change.changed, ets, site, found.writes)
        why = "increments of both stay" if policy.deltas else "columns are merged"
        return Decision(Action.MERGE, kind, Winner.MERGED, why, takes)
    why = f"{owner} owns the row" if owner else _reason(ets, site, newest, policy)
    if wins:
        return Decision(wanted, kind, Winner.REMOTE, why)
    return Decision(Action.KEEP, kind, Winner.LOCAL, why)


def _unmergeable(
    change: Change, found: Rivals, kind: Kind, policy: TablePolicy, *, wins: bool
) -> Decision | None:
    """Leave open what would be merged in another order at the other site, 5.

    An insert that meets one write only met an insert. With several, some may be to the row that
    was there before a delete: they are gone here, and yet to come where the insert is from. To
    which of them a column belongs can be told, but not what a maximum was made of.
    """
    if policy.deltas and not (change.before and change.after and change.exists):
        return left_open(kind, "a counter's row was deleted or inserted at one site")
    if not change.after:
        mergeable = wins or not change.exists
    elif change.exists:
        mergeable = change.before or not policy.columns or len(found.writes) == 1
    else:
        mergeable = not wins or not (change.before or policy.columns)
    return None if mergeable else left_open(kind, "a row to be merged was deleted at one site")


def _kind(change: Change, found: Rivals) -> Kind | None:
    rivalled = bool(found.writes) or found.blind
    if not change.after:
        if rivalled:
            return Kind.DELETE_ORIGIN_DIFFERS if change.exists else Kind.DELETE_MISSING
        if change.before:
            return None if change.exists else Kind.DELETE_MISSING
        return Kind.INSERT_EXISTS if change.exists else None
    if not change.before:
        if change.exists:
            return Kind.INSERT_EXISTS
        return Kind.UPDATE_DELETED if rivalled else None
    if not change.exists:
        return Kind.UPDATE_DELETED if rivalled else Kind.UPDATE_MISSING
    return Kind.UPDATE_ORIGIN_DIFFERS if rivalled else None


def _order(ets: int, site: str, policy: TablePolicy, owner: str) -> Order:
    rank = -policy.sites.index(site) if policy.sites else int(site == owner)
    return rank, ets, site


def _reason(ets: int, site: str, newest: Write, policy: TablePolicy) -> str:
    if policy.policy == "site_priority":
        return f"{policy.sites[0]} is preferred"
    wins = (ets, site) > (newest.ets, newest.origin)
    later, earlier = (site, newest.origin) if wins else (newest.origin, site)
    gap = abs(ets - newest.ets)
    return f"{later} wrote {gap} us after {earlier}" if gap else f"at one time; {later} sorts last"


def left_open(kind: Kind | None, reason: str) -> Decision:
    """Leave a row to a person, 4."""
    return Decision(Action.KEEP, kind or Kind.UPDATE_ORIGIN_DIFFERS, Winner.OPEN, reason)
