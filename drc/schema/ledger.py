"""The ledger on the target: records the GTIDs of each origin that are decided at the target.

``drc.ledger`` has ``ROWS`` rows for each origin, so many commits may be in flight. The batch with
number ``seq`` rewrites the row ``seq % ROWS`` in the transaction of the batch. So a batch waits
only for the batch ``ROWS`` before, and after any crash the row with the highest ``seq`` is the
truth. That row alone is loop tag, exactly-once guard and checkpoint (I5).

1. The column ``applied`` is complete: all GTIDs up to and including the batch are decided, skipped
   and excluded GTIDs included, as batches commit in the order of the origin.
2. Only a single applier of a stream can write: a second applier finds ``seq`` changed in its row, a
   daemon whose lease was taken over finds ``epoch`` changed (``drc/daemon/lease.py``), and both are
   refused.
3. The clock survives every restart: ``ets`` and ``seen`` are the origin's clock after the batch,
   from which the next session goes on (I6) and by which the clock of the target moves.
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
    """The newest ledger row of an origin: number of the batch, decided set, the origin's clock.

    ``epoch`` is the epoch of the lease under which the next batch may be written, for example
    ``1795449426846040``.
    """

    seq: int
    decided: GtidSet
    mark: Mark = field(default_factory=Mark)
    epoch: int = 0


def read(conn: pymysql.Connection[Any], origin: str) -> LedgerState | None:
    """Return the newest state, None if this stream has never run.

    :raises PreflightError: schema ``drc`` is missing or cannot be read.
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
                f"cannot read schema `drc`: {error.args[-1]}",
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
    """Return an epoch above all earlier epochs: the time in µs since 1970, or the newest + 1.

    The time also exceeds earlier epochs that an emptied ledger no longer has.
    """
    ((epoch,),) = mysql.ask(
        conn,
        "SELECT GREATEST(COALESCE(MAX(epoch), 0) + 1,"
        " CAST(UNIX_TIMESTAMP(SYSDATE(6)) * 1000000 AS SIGNED)) FROM drc.ledger",
    )
    return int(epoch)


def newest_epoch(conn: pymysql.Connection[Any]) -> int:
    """Return the epoch of the last lease; 0 before any stream has begun."""
    ((epoch,),) = mysql.ask(conn, NEWEST_EPOCH)
    return int(epoch)


def claim(conn: pymysql.Connection[Any], epoch: int, origin: str = "") -> None:
    """Raise all rows to ``epoch``, or all rows of ``origin``; change nothing else in the rows.

    The statement waits for batches that are under way. The newest row comes first in the binlog:
    readers take the first row as the decided set, which may not shrink.

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
    """Claim the rows of ``origin`` for a lease and return the state from which a session goes on.

    :returns: None if this stream has never run.
    :raises TransientError: a newer lease has claimed the rows.
    """
    claim(conn, epoch, origin)
    state = read(conn, origin)
    if state and state.epoch != epoch:
        raise fenced()
    return state


def fenced() -> TransientError:
    """Return the error of an applier whose lease another daemon has taken over."""
    return TransientError(
        "fenced: another daemon has taken over this site",
        stage="apply",
        hint="wait: this daemon applies nothing more and stands by",
    )


def create(
    conn: pymysql.Connection[Any], origin: str, start: GtidSet, epoch: int = 0
) -> LedgerState:
    """Register a stream whose first transaction is the first that is not in ``start``.

    :raises TransientError: another daemon has just registered the stream.
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
    """Return the statement that records batch ``seq`` and must change exactly 1 row.

    The time is SYSDATE, as ``BINLOG`` sets the session's time to the time of the events. The values
    are safe in the text: site names of the checked configuration, and printed GTID sets.

    :param gtids: GTIDs of the batch.
    :param decided: all decided GTIDs of ``origin``, with this batch.
    :param mark: the origin's clock after the batch.
    :param commit_us: when the newest transaction was committed at the origin, in µs since 1970.
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
    """Return the decided set of each origin; None if the ledger cannot be read."""
    try:
        rows = mysql.ask(conn, _LEDGER)
    except DrcError:
        return None
    excluded: defaultdict[str, GtidSet] = defaultdict(GtidSet)
    with contextlib.suppress(DrcError):  # an older schema, on which preflight reports by itself
        excluded = given_up.read(conn)
    return {
        origin: LedgerFacts(GtidSet.parse(decided), int(seq), excluded[origin])
        for origin, seq, decided in rows
    }
