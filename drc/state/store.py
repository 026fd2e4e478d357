"""The checkpoint store: status of sites, history of lag, commands of operators. Edge.

1. An empty, deleted or stale store does no harm to data: the store has hints for people and for a
   quicker start, and only the target's ledger knows the decided set.
2. So a write never raises an error: a store that cannot be written is reported once, and the next
   write tries again. In the same way a store that is deleted under a running daemon comes back.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa
import structlog

from drc.errors import ConfigError, DrcError
from drc.state.lag_history import LEVELS, Bucket
from drc.worker.snapshot import SavedSnapshot, Snapshot
from drc.worker.wanted import Wanted

if TYPE_CHECKING:
    from drc.state.migrate import Migration

_LAG_HELD_MAX = 10  # seconds: a killed daemon loses these, but a commit for each is saved
_BUSY_MS = 2000  # another process's commit takes milliseconds

_metadata = sa.MetaData()
_statuses = sa.Table(
    "statuses",
    _metadata,
    sa.Column("site", sa.String, primary_key=True),
    sa.Column("status", sa.Text),
    sa.Column("updated_us", sa.BigInteger),
)
_lag_history = sa.Table(
    "lag_history",
    _metadata,
    sa.Column("origin", sa.String, primary_key=True),
    sa.Column("target", sa.String, primary_key=True),
    sa.Column("bucket_s", sa.Integer, primary_key=True),
    sa.Column("at_us", sa.BigInteger, primary_key=True),
    sa.Column("sample", sa.Text),
)

_desired = sa.Table(
    "desired",
    _metadata,
    sa.Column("origin", sa.String, primary_key=True),
    sa.Column("target", sa.String, primary_key=True),
    sa.Column("state", sa.String),
    sa.Column("reason", sa.Text),
    sa.Column("updated_us", sa.BigInteger),
)
_audit = sa.Table(
    "audit",
    _metadata,
    sa.Column("id", sa.BigInteger, primary_key=True),
    sa.Column("at_us", sa.BigInteger),
    sa.Column("actor", sa.String),
    sa.Column("action", sa.String),
    sa.Column("subject", sa.String),
    sa.Column("reason", sa.Text),
    sa.Column("detail", sa.Text),
)
_revisions = sa.Table(
    "config_revisions",
    _metadata,
    sa.Column("id", sa.BigInteger, primary_key=True),
    sa.Column("site", sa.String),
    sa.Column("at_us", sa.BigInteger),
    sa.Column("digest", sa.String),
    sa.Column("config", sa.Text),
)

log = structlog.get_logger("drc.state")


class Store:
    """The checkpoint store at a SQLAlchemy URL; the first write creates a missing store."""

    def __init__(self, url: str, password: str = "") -> None:
        try:
            parsed = sa.engine.make_url(url)
            if password:
                parsed = parsed.set(password=password)
            sqlite = parsed.get_backend_name() == "sqlite"
            self._file = Path(parsed.database) if sqlite and parsed.database else None
            # Otherwise two daemons that each write a first row would lock the same gap.
            options = {} if sqlite else {"isolation_level": "READ COMMITTED"}
            # A connection for each use, about 1 per second, notices a deleted file.
            self._engine = sa.create_engine(parsed, poolclass=sa.pool.NullPool, **options)
        except (sa.exc.ArgumentError, sa.exc.NoSuchModuleError, ImportError) as error:
            raise ConfigError(
                f"state_url is not valid: {error}",
                hint="set a SQLAlchemy URL whose driver is installed",
            ) from error
        if sqlite:
            sa.event.listen(self._engine, "connect", _prepare_sqlite)
        self._writable = True
        self._lag: list[Bucket] = []  # finished and not yet written

    def migrate(self) -> Migration:
        """Create or update the tables.

        :raises TransientError: the store cannot be reached.
        """
        from drc.state.migrate import migrate_store  # imports Alembic: only for a new store

        return migrate_store(self._engine)

    def save_status(self, site: str, status: Snapshot) -> None:
        """Replace the stored status of a site."""
        text = json.dumps(msgspec.to_builtins(status))  # ASCII: for any character set of a store
        self._write(lambda c: _replace(c, _statuses, {"site": site}, status=text))

    def save_lag(self, buckets: Sequence[Bucket]) -> None:
        """Keep finished buckets of lag, and write several at a time."""
        self._lag += buckets
        if len(self._lag) >= _LAG_HELD_MAX:
            self._write_lag()

    def _write_lag(self) -> None:
        """Write the buckets that are kept, and delete buckets that are too old."""
        buckets, self._lag = self._lag, []
        if not buckets:
            return
        rows = [{**b._asdict(), "sample": json.dumps(b.sample)} for b in buckets]
        table = _lag_history

        def write(connection: sa.Connection) -> None:
            for row in rows:
                same = (c == row[c.name] for c in table.primary_key)
                connection.execute(sa.delete(table).where(*same))
            connection.execute(sa.insert(table), rows)
            for bucket_s, kept_s in LEVELS:
                if newest := max((b.at_us for b in buckets if b.bucket_s == bucket_s), default=0):
                    old = table.c.at_us < newest - kept_s * 1_000_000
                    where = sa.and_(table.c.bucket_s == bucket_s, old)
                    connection.execute(sa.delete(table).where(where))

        self._write(write)

    def lag(self, origin: str, target: str, since_us: int = 0) -> list[dict[str, Any]]:
        """Return the history of a stream's lag, oldest first, each time in the finest bucket.

        A bucket is a sample (docs/operations/lag.md) with ``at_us`` and ``bucket_s``.
        """
        self._write_lag()
        table = _lag_history
        found = self._rows(
            table, table.c.origin == origin, table.c.target == target, table.c.at_us >= since_us
        )
        out: list[dict[str, Any]] = []
        begin: float = math.inf  # of the time that finer buckets cover
        for _, level in itertools.groupby(
            sorted(found, key=lambda r: (r.bucket_s, r.at_us)), key=lambda r: r.bucket_s
        ):
            rows = [r for r in level if r.at_us + r.bucket_s * 1_000_000 <= begin]
            begin = min([begin, *(r.at_us for r in rows)])
            out += (
                {"at_us": r.at_us, "bucket_s": r.bucket_s, **json.loads(r.sample)} for r in rows
            )
        return sorted(out, key=lambda bucket: bucket["at_us"])

    # ------------------------------------------------------------ operators

    def wanted(self, site: str) -> dict[str, Wanted]:
        """Return the wanted states of the streams into a site, by origin; {} if unknown."""
        rows = self._rows(_desired, _desired.c.target == site)
        return {row.origin: Wanted(row.state, row.reason) for row in rows}

    def save_wanted(self, origin: str, target: str, wanted: Wanted) -> None:
        """Write the state that an operator wants of a stream."""
        stream = {"origin": origin, "target": target}
        self._write(lambda c: _replace(c, _desired, stream, **wanted._asdict()))

    def note(
        self, actor: str, action: str, subject: str, reason: str, detail: dict[str, Any]
    ) -> None:
        """Write the action of an operator to the audit; ``detail`` is ready for JSON."""
        self._add(
            _audit,
            actor=actor[:128],
            action=action[:32],
            subject=subject[:255],
            reason=reason,
            detail=json.dumps(detail),
        )

    def noted(self, limit: int) -> list[dict[str, Any]]:
        """Return the actions of operators, the newest first, at most ``limit``."""
        rows = self._rows(_audit, order=_audit.c.id.desc(), limit=limit)
        names = ("at_us", "actor", "action", "subject", "reason")
        return [
            {**{name: getattr(row, name) for name in names}, "detail": json.loads(row.detail)}
            for row in rows
        ]

    def save_revision(self, site: str, digest: str, config: dict[str, Any]) -> None:
        """Write the configuration that a site runs with, once for each change."""
        newest = _revisions.c.id.desc()
        last = self._rows(_revisions, _revisions.c.site == site, order=newest, limit=1)
        if not last or last[0].digest != digest:
            self._add(_revisions, site=site, digest=digest, config=json.dumps(config))

    def _add(self, table: sa.Table, **values: Any) -> None:
        row = {**values, "at_us": time.time_ns() // 1000}
        self._write(lambda connection: connection.execute(sa.insert(table).values(row)))

    # ------------------------------------------------------------ reading

    def statuses(self) -> dict[str, SavedSnapshot]:
        """Return the newest snapshot of every site; {} if unknown.

        A snapshot of another release counts as unknown if this release cannot read the snapshot.
        """
        out = {}
        for row in self._rows(_statuses):
            with contextlib.suppress(msgspec.DecodeError):
                said = msgspec.json.decode(row.status, type=SavedSnapshot)
                out[row.site] = msgspec.structs.replace(said, saved_us=row.updated_us)
        return out

    def close(self) -> None:
        """Write the buckets that are kept, and close the store."""
        self._write_lag()
        self._engine.dispose()

    def _rows(
        self,
        table: sa.Table,
        *where: sa.ColumnElement[bool],
        order: sa.UnaryExpression[Any] | None = None,
        limit: int | None = None,
    ) -> list[Any]:
        if self._file and not self._file.exists():
            return []  # a reader that created the file would own the file
        try:
            with self._engine.connect() as connection:
                query = sa.select(table).where(*where).order_by(order).limit(limit)
                return list(connection.execute(query))
        except sa.exc.SQLAlchemyError as error:
            self._complain(error)
            return []

    def _write(self, write: Callable[[sa.Connection], object]) -> None:
        """Run ``write`` in a transaction; create the store again first, if the store is gone."""
        try:
            self._remove_orphans()
            try:
                self._commit(write)
            except sa.exc.DatabaseError as error:  # no table yet, a dropped table, or no database
                self._discard_if_broken(error)
                self.migrate()
                self._commit(write)
            self._writable = True
        except (sa.exc.SQLAlchemyError, DrcError) as error:
            self._complain(error)

    def _commit(self, write: Callable[[sa.Connection], object]) -> None:
        with self._engine.begin() as connection:
            write(connection)

    def _remove_orphans(self) -> None:
        """Remove the write-ahead log of a deleted file: SQLite would replay it into a new file."""
        if self._file and not self._file.exists():
            for suffix in ("-wal", "-shm"):
                self._file.with_name(self._file.name + suffix).unlink(missing_ok=True)

    def _discard_if_broken(self, error: sa.exc.DatabaseError) -> None:
        text = str(error.orig)
        if self._file and ("not a database" in text or "malformed" in text):
            log.warning("checkpoint store is broken, starting a new store", error=text)
            self._file.unlink(missing_ok=True)
            self._remove_orphans()

    def _complain(self, error: Exception) -> None:
        if self._writable:  # once for each failure
            log.warning(
                "cannot use the checkpoint store, going on without",
                error=str(getattr(error, "orig", None) or error),
                hint="check state_url; replication does not depend on the store",
            )
        self._writable = False


def _replace(
    connection: sa.Connection, table: sa.Table, key: dict[str, str], **values: str
) -> None:
    """Replace the row of ``key``."""
    where = (table.c[name] == value for name, value in key.items())
    connection.execute(sa.delete(table).where(*where))
    row = {**key, **values, "updated_us": time.time_ns() // 1000}
    connection.execute(sa.insert(table), row)


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    # WAL lets `drc status` read while daemons write. The last second may be lost without harm.
    for pragma in ("journal_mode = WAL", "synchronous = NORMAL", f"busy_timeout = {_BUSY_MS}"):
        connection.execute(f"PRAGMA {pragma}")
