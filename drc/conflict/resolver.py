"""Resolver: chooses the outcome of a row change that may have rivals. Pure.

The resolver is asked under locks, with an index that holds every earlier writer. Every change,
every row state and every policy has an answer, and the answer is the same at every site
(``tests/simulation``).

1. The same write stays at each site, because the order of writes is total: a change wins against
   all rivals or loses against any, by ``(ets, site)`` or by the policy's preference.
2. A winning change is written whole: the row becomes as at the site of the change. A losing change
   leaves no trace but in the conflict log.
3. A change that nothing explains (no rival, but the row is missing or exists already) shows that
   the sites differed before. The newer state is written, and the conflict log says so.
4. A change that cannot be judged, or must not be judged by a rule, is left open: each site keeps
   its own row.
5. Columns are merged in a row that exists: by a policy of the column, or each by the last writer.
   If a side deleted the row, but not all changes merged into the row went too, the result of a
   merge would depend on the order: the row is left open.

Kinds are PostgreSQL 18's: manual, "Logical Replication Conflicts".
"""

from __future__ import annotations

from enum import Enum, StrEnum
from typing import NamedTuple

from drc.conflict.merge import taken
from drc.conflict.writes import Rivals, Write
from drc.policy import TablePolicy
from drc.rows.walk import ALL_COLUMNS


class ConflictKind(StrEnum):
    """The two operations that met."""

    INSERT_EXISTS = "insert_exists"
    UPDATE_ORIGIN_DIFFERS = "update_origin_differs"
    UPDATE_DELETED = "update_deleted"
    UPDATE_MISSING = "update_missing"
    DELETE_ORIGIN_DIFFERS = "delete_origin_differs"
    DELETE_MISSING = "delete_missing"
    MULTIPLE_UNIQUE_CONFLICTS = "multiple_unique_conflicts"


class Winner(StrEnum):
    """The side whose state the row has now."""

    REMOTE = "remote"
    LOCAL = "local"
    MERGED = "merged"
    OPEN = "open"


class RowAction(Enum):
    """The action on the row here."""

    KEEP = "keep"
    WRITE = "write"
    DELETE = "delete"
    ASK = "ask"  # the table's function decides, ``function.py``
    MERGE = "merge"  # the policy's columns by the policy's rules, other columns kept or written


class Change(NamedTuple):
    """A row change: whether there are before and after images, and whether the row exists here.

    With neither image the transaction inserted and deleted the row: the change counts as a delete.
    ``changed`` are the columns that the transaction changed, as bits; ``owner`` is the site that
    owns the row, as returned by :meth:`TablePolicy.owner`.
    """

    before: bool
    after: bool
    exists: bool
    changed: int = ALL_COLUMNS
    owner: str | None = ""


class Decision(NamedTuple):
    """The outcome of a change; ``kind`` is None if there was no conflict.

    ``takes`` are the columns that a merge takes from the remote side, as bits. Bits of columns that
    have a policy do not count.
    """

    action: RowAction
    kind: ConflictKind | None
    winner: Winner
    reason: str
    takes: int = ALL_COLUMNS


Precedence = tuple[int, int, str]


def resolve(change: Change, found: Rivals, ets: int, site: str, policy: TablePolicy) -> Decision:
    """Choose the outcome of a row change of ``site``.

    :param found: the rivals of the row's primary key in the index.
    :param ets: the clock value of the change's transaction, for example ``1795449426846040``.
    """
    kind = _kind(change, found)
    wanted = RowAction.WRITE if change.after else RowAction.DELETE
    if found.blind:
        return left_open(kind, "the index had to forget writes that may be concurrent")
    if not found.writes:
        if kind is None:
            return Decision(wanted, None, Winner.REMOTE, "")
        return Decision(wanted, kind, Winner.REMOTE, "no concurrent write explains this")
    assert kind is not None
    if policy.policy == "park":
        return left_open(kind, "the table's policy leaves the row to an operator")
    if change.owner is None:
        return left_open(kind, f"{policy.owner_column} is not the same in all versions of the row")
    owner = change.owner
    newest = max(
        found.newest, key=lambda write: _precedence(write.ets, write.origin, policy, owner)
    )
    wins = _precedence(ets, site, policy, owner) > _precedence(
        newest.ets, newest.origin, policy, owner
    )
    if policy.function and len(found.writes) > 1:
        return left_open(kind, "a write met several writes, and the table's function takes two")
    if policy.function and (change.after or change.exists):
        return Decision(RowAction.ASK, kind, Winner.OPEN, f"{policy.function} decides")
    if policy.merges and (open_ := _unmergeable(change, found, kind, policy, wins=wins)):
        return open_
    if policy.merges and change.after and change.exists:
        takes = ALL_COLUMNS if wins else 0
        if policy.policy == "column_merge":
            takes = taken(change.changed, ets, site, found.writes)
        why = "increments of both stay" if policy.deltas else "columns are merged"
        return Decision(RowAction.MERGE, kind, Winner.MERGED, why, takes)
    why = f"{owner} owns the row" if owner else _reason(ets, site, newest, policy)
    if wins:
        return Decision(wanted, kind, Winner.REMOTE, why)
    return Decision(RowAction.KEEP, kind, Winner.LOCAL, why)


def _unmergeable(
    change: Change, found: Rivals, kind: ConflictKind, policy: TablePolicy, *, wins: bool
) -> Decision | None:
    """Leave a row open that the other site would merge in another order (rule 5).

    An insert that meets a single write met an insert. Of several writes, some may be older than a
    delete of the row: these are gone here, but will still arrive at the insert's site. The write
    to which a column belongs is known, but not the values from which a maximum was formed.
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


def _kind(change: Change, found: Rivals) -> ConflictKind | None:
    has_rivals = bool(found.writes) or found.blind
    if not change.after:
        if has_rivals:
            return (
                ConflictKind.DELETE_ORIGIN_DIFFERS if change.exists else ConflictKind.DELETE_MISSING
            )
        if change.before:
            return None if change.exists else ConflictKind.DELETE_MISSING
        return ConflictKind.INSERT_EXISTS if change.exists else None
    if not change.before:
        if change.exists:
            return ConflictKind.INSERT_EXISTS
        return ConflictKind.UPDATE_DELETED if has_rivals else None
    if not change.exists:
        return ConflictKind.UPDATE_DELETED if has_rivals else ConflictKind.UPDATE_MISSING
    return ConflictKind.UPDATE_ORIGIN_DIFFERS if has_rivals else None


def _precedence(ets: int, site: str, policy: TablePolicy, owner: str) -> Precedence:
    rank = -policy.sites.index(site) if policy.sites else int(site == owner)
    return rank, ets, site


def _reason(ets: int, site: str, newest: Write, policy: TablePolicy) -> str:
    if policy.policy == "site_priority":
        return f"{policy.sites[0]} is preferred"
    wins = (ets, site) > (newest.ets, newest.origin)
    later, earlier = (site, newest.origin) if wins else (newest.origin, site)
    gap = abs(ets - newest.ets)
    return f"{later} wrote {gap} us after {earlier}" if gap else f"at one time; {later} sorts last"


def left_open(kind: ConflictKind | None, reason: str) -> Decision:
    """Leave a row open for an operator (rule 4)."""
    return Decision(RowAction.KEEP, kind or ConflictKind.UPDATE_ORIGIN_DIFFERS, Winner.OPEN, reason)
