"""A segment of the spill as a private SQLite file. Edge.

1. The file has no name once it is open, and mode 0600 before: it ends with the process, whatever
   ends that. It holds hashes of keys and GTIDs, no values.
2. It is one transaction without a journal, in SQLite's cache until it is sealed and written at
   once: it is whole or worth nothing.
3. It is not mapped into memory: a disk that fails is then an error, not the end of the process.

Numbers go in and questions are asked as one JSON array: SQLite then does the rest by itself, and
other Python threads run meanwhile.

Source: SQLite, "Pragma statements", "The WITHOUT ROWID Optimization", "JSON Functions".
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import tempfile
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from drc.conflict.spill import Found
from drc.conflict.writes import Moved
from drc.errors import ConfigError
from drc.gtid import Gtid
from drc.rows.walk import ALL_COLUMNS

_OPEN_KIB = 64 << 10  # of cache: more than a segment has, so nothing is written before its end
_SEALED_KIB = 256  # the inner nodes of a segment; its leaves are in the system's cache
_INTEGERS = range(-(1 << 63), 1 << 63)  # SQLite's

# Slots are numbered as they come. A write has those from its ``first`` to that of the next one.
# Such pages take a tenth less time to fill than those of 4 KiB.
_BEGIN = f"""
PRAGMA page_size = 16384;
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA locking_mode = EXCLUSIVE;
PRAGMA temp_store = MEMORY;
PRAGMA cache_size = -{_OPEN_KIB};
CREATE TABLE written (first INTEGER PRIMARY KEY, server INTEGER, gno INTEGER, ets INTEGER);
CREATE TABLE touched (slot INTEGER, number INTEGER, PRIMARY KEY (slot, number)) WITHOUT ROWID;
CREATE TABLE changed (number INTEGER PRIMARY KEY, columns);
BEGIN;
"""
_SEALED = f"PRAGMA cache_size = -{_SEALED_KIB}; PRAGMA shrink_memory;"
_WRITTEN = "INSERT INTO written VALUES (?, ?, ?, ?)"
_CHANGED = "INSERT INTO changed VALUES (?, ?)"
_TOUCHED = "INSERT INTO touched SELECT value, ? + key FROM json_each(?) ORDER BY value"
_BYTES = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
_FIND = """
SELECT slot, server, gno, ets, columns
FROM json_each(?) CROSS JOIN touched ON slot = value
CROSS JOIN written ON first = (SELECT max(first) FROM written WHERE first <= touched.number)
LEFT JOIN changed ON changed.number = touched.number
ORDER BY slot, touched.number
"""


class FileSegment:
    """Writes of one origin, in a file in ``folder`` that is made when the first ones come."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._db: sqlite3.Connection | None = None
        self._servers: dict[tuple[bytes, str], int] = {}  # UUID and tag, by number in the file
        self._slots = 0
        self.bytes = 0

    def add(self, moved: Sequence[Moved]) -> None:
        """See :class:`~drc.conflict.spill.Segment`."""
        slots, written, changed = list[int](), [], []
        for gtid, ets, touched, columns in moved:
            if touched:
                first = self._slots + len(slots)
                server = self._servers.setdefault((gtid.uuid, gtid.tag), len(self._servers))
                written.append((first, server, gtid.gno, ets))
                slots += touched
                if columns:
                    numbers = enumerate(touched, first)
                    changed += [(n, _stored(columns[s])) for n, s in numbers if s in columns]
        with _disk():
            self._db = db = self._db or _opened(self._folder)
            db.executemany(_WRITTEN, written)
            db.execute(_TOUCHED, (self._slots, json.dumps(_signed(slots))))
            db.executemany(_CHANGED, changed)
            ((self.bytes,),) = db.execute(_BYTES)
        self._slots += len(slots)

    def seal(self) -> None:
        """See :class:`~drc.conflict.spill.Segment`."""
        assert self._db
        with _disk():
            self._db.execute("COMMIT")
            self._db.executescript(_SEALED)

    def find(self, slots: Iterable[int]) -> list[Found]:
        """See :class:`~drc.conflict.spill.Segment`."""
        assert self._db
        servers = list(self._servers)
        with _disk():
            found = self._db.execute(_FIND, (json.dumps(sorted(_signed(slots))),)).fetchall()
        out = []
        for slot, server, gno, ets, bits in found:
            uuid, tag = servers[server]
            columns = ALL_COLUMNS if bits is None else int(bits)
            out.append(Found(slot % (1 << 64), Gtid(uuid, gno, tag), ets, columns))
        return out

    def close(self) -> None:
        """See :class:`~drc.conflict.spill.Segment`."""
        if self._db:
            with contextlib.suppress(sqlite3.Error):
                self._db.close()


def require_folder(folder: Path) -> None:
    """Check that files can be made in ``folder``: not only when a peer is away for long.

    :raises ConfigError: they cannot.
    """
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigError(
            f"conflicts.index_spill_folder: no file can be made in {folder}",
            hint="name a folder of ours on a disk, or set conflicts.index_spill_bytes_max = 0",
        )


def _opened(folder: Path) -> sqlite3.Connection:
    """Return an empty database in a file that has no name any more."""
    number, name = tempfile.mkstemp(prefix="drc-index-", dir=folder)
    os.close(number)
    try:
        db = sqlite3.connect(name, isolation_level=None, check_same_thread=False)
        db.executescript(_BEGIN)
    finally:
        os.unlink(name)
    return db


@contextlib.contextmanager
def _disk() -> Iterator[None]:
    """Have what SQLite says of the disk as OSError."""
    try:
        yield
    except sqlite3.Error as error:
        raise OSError(f"SQLite: {error}") from error


def _signed(slots: Iterable[int]) -> list[int]:
    """Return slots as SQLite has them: 64 bits with a sign."""
    return array("q", array("Q", slots).tobytes()).tolist()


def _stored(columns: int) -> int | str:
    """Return the bits of columns, as text where a table has more than an integer."""
    return columns if columns in _INTEGERS else str(columns)
