"""The ledger on the target: which of an origin's GTIDs are decided here.

``drc.ledger`` holds a few rows per origin, one for each commit that may be in flight. The batch
with number ``seq`` rewrites the row ``seq % ROWS``, in the transaction of its rows: so a batch
waits for none but the one ``ROWS`` before it, and the row with the highest ``seq`` tells the
truth after any crash. That one row is loop tag, exactly-once guard and checkpoint (I5).

1. ``applied`` is complete: batches commit in the origin's order, so everything up to and
   including the batch is decided, what was passed over included.
2. A second applier of the same stream finds its row's ``seq`` changed and is refused; one whose
   lease another daemon has taken over finds the ``epoch`` changed (``drc/daemon/lease.py``).
3. ``ets`` and ``seen`` are the origin's clock after the batch: from here the next session goes on
   with it (I6), and this site's clock moves by it.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import pymysql

from drc import mysql
from drc.clock import Mark, decode_seen, encode_seen
from drc.errors import DrcError, PreflightError, TransientError
from drc.gtid import GtidSet
from drc.schema import given_up
from drc.schema.facts import LedgerFacts

ROWS = 8
NEWEST_EPOCH = "SELECT COALESCE(MAX(epoch), 0) FROM drc.ledger"


@dataclass(frozen=True, slots=True)
class LedgerState:
    """What the target says of one origin: the newest batch, all that is decided, and its clock.

    ``epoch`` is that of the lease under which the next batch may be written.
    """

    seq: int
    decided: GtidSet
    mark: Mark = field(default_factory=Mark)
    epoch: int = 0


def read(conn: pymysql.Connection[Any], origin: str) -> LedgerState | None:
    """Return the newest state, None when this stream has never run.

    :raises PreflightError: when the schema is missing.
    """
    with conn.cursor() as cursor:
        try:
            cursor.execute(
                "SELECT seq, applied, ets, seen, epoch FROM drc.ledger WHERE origin = %s"
                " ORDER BY seq DESC LIMIT 1",
                (origin,),
            )
        except pymysql.err.ProgrammingError as error:
            raise PreflightError(
                f"schema `drc` is not there or not readable: {error.args[-1]}",
                stage="apply",
                hint="run `drc migrate`",
            ) from error
        row = cursor.fetchone()
    conn.rollback()
    if row is None:
        return None
    mark = Mark(int(row[2]), decode_seen(row[3]))
    return LedgerState(int(row[0]), GtidSet.parse(row[1]), mark, int(row[4]))


def next_epoch(conn: pymysql.Connection[Any]) -> int:
    """Return an epoch above all that ever were, though the ledger be empty: a time, mostly."""
    ((epoch,),) = mysql.ask(
        conn,
        "SELECT GREATEST(COALESCE(MAX(epoch), 0) + 1,"
        " CAST(UNIX_TIMESTAMP(SYSDATE(6)) * 1000000 AS SIGNED)) FROM drc.ledger",
    )
    return int(epoch)


def newest_epoch(conn: pymysql.Connection[Any]) -> int:
    """Return the epoch of the lease that was taken last; 0 before any stream has begun."""
    ((epoch,),) = mysql.ask(conn, NEWEST_EPOCH)
    return int(epoch)


def claim(conn: pymysql.Connection[Any], epoch: int, origin: str = "") -> None:
    """Give all rows of older epochs this one, or those of ``origin``; nothing else of them changes.

    Waits for batches that are under way. The newest row comes first: readers of this binlog take
    the first row for what is applied, which may not go backwards.

    :raises DrcError: classed by errno.
    """
    only = " AND origin = %s" if origin else ""
    mysql.ask(
        conn,
        "UPDATE drc.ledger SET epoch = %s, committed_at = committed_at WHERE epoch < %s"
        f"{only} ORDER BY seq DESC",
        (epoch, epoch, origin) if origin else (epoch, epoch),
    )
    conn.commit()


def begin(conn: pymysql.Connection[Any], origin: str, epoch: int) -> LedgerState | None:
    """Return the newest state to go on from under a lease, None when this stream has never run.

    :raises TransientError: a newer lease has it.
    """
    claim(conn, epoch, origin)
    state = read(conn, origin)
    if state and state.epoch != epoch:
        raise fenced()
    return state


def fenced() -> TransientError:
    """Return what to tell one whose lease is over."""
    return TransientError(
        "fenced: another daemon has taken over this site",
        stage="apply",
        hint="nothing more is applied from here; this one stands by",
    )


def create(
    conn: pymysql.Connection[Any], origin: str, start: GtidSet, epoch: int = 0
) -> LedgerState:
    """Register a stream whose first transaction is the first one not in ``start``.

    :raises TransientError: another daemon has just done so.
    """
    rows = [(origin, lane, lane - ROWS, "", str(start), epoch) for lane in range(ROWS)]
    try:
        with conn.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO drc.ledger (origin, lane, seq, gtids, applied, ets, seen,"
                " transactions, origin_commit_us, epoch)"
                " VALUES (%s, %s, %s, %s, %s, 0, '', 0, 0, %s)",
                rows,
            )
    except pymysql.err.IntegrityError as error:
        raise TransientError("another daemon has begun this stream", stage="apply") from error
    conn.commit()
    return LedgerState(-1, start, epoch=epoch)


def update_sql(
    origin: str,
    seq: int,
    gtids: str,
    decided: str,
    mark: Mark,
    transactions: int,
    commit_us: int,
    epoch: int = 0,
) -> str:
    """Return the statement that records batch ``seq``; it must change exactly one row.

    SYSDATE, as ``BINLOG`` sets the session's time to that of our events. The texts are ours: site
    names from the checked configuration, and printed GTID sets.
    """
    return (
        f"UPDATE drc.ledger SET seq={seq},gtids='{gtids}',applied='{decided}',"
        f"ets={mark.ets},seen='{encode_seen(mark.seen)}',"
        f"transactions={transactions},origin_commit_us={commit_us},committed_at=SYSDATE(6)"
        f" WHERE origin='{origin}' AND lane={seq % ROWS} AND seq={seq - ROWS} AND epoch={epoch}"
    )


_LEDGER = """
SELECT l.origin, l.seq, l.applied FROM drc.ledger l
JOIN (SELECT origin, MAX(seq) AS seq FROM drc.ledger GROUP BY origin) n USING (origin, seq)
"""


def read_ledger(conn: mysql.Connection) -> dict[str, LedgerFacts] | None:
    """Return what is decided of each origin; None when the ledger cannot be read."""
    try:
        rows = mysql.ask(conn, _LEDGER)
    except DrcError:
        return None
    skipped: defaultdict[str, GtidSet] = defaultdict(GtidSet)
    with contextlib.suppress(DrcError):  # a schema from before, which is a finding of its own
        skipped = given_up.read(conn)
    return {
        origin: LedgerFacts(GtidSet.parse(decided), int(seq), skipped[origin])
        for origin, seq, decided in rows
    }
