"""File segment: a segment of the spill in a private SQLite file. Edge.

1. The file ends with the process, however the process ends: the file has no name once open, and
   mode 0600 before. The file holds hashes of keys and GTIDs, no values.
2. The file is whole or worth nothing: a single transaction without a journal, kept in SQLite's
   cache until the segment is sealed, then written at once.
3. A disk that fails is an error, not the end of the process: no file is mapped into memory.

Numbers and questions are passed as a single JSON array: SQLite then works alone, and other Python
threads run meanwhile.

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

_OPEN_KIB = 64 << 10  # of cache: more than a segment has, so nothing is written before the seal
_SEALED_KIB = 256  # for the inner nodes of a segment; the system's cache has the leaves
_INTEGERS = range(-(1 << 63), 1 << 63)  # of SQLite

# Slots are numbered as they arrive. A write has the slots from ``first`` up to the next ``first``.
# Pages of 16 KiB take a tenth less time to fill than pages of 4 KiB.
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
    """Writes of an origin, in a file in ``folder`` that the first :meth:`add` creates."""

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
    """Check at the start that files can be created in ``folder``.

    Without this check, the error would only come when a peer is away for long.

    :raises ConfigError: files cannot be created.
    """
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigError(
            f"conflicts.index_spill_folder is not valid: cannot create a file in {folder}",
            hint="set a folder on a disk that the daemon may write to,"
            " or set conflicts.index_spill_bytes_max = 0",
        )


def _opened(folder: Path) -> sqlite3.Connection:
    """Return an empty database in a file whose name is already removed."""
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
    """Raise errors of SQLite as OSError."""
    try:
        yield
    except sqlite3.Error as error:
        raise OSError(f"SQLite: {error}") from error


def _signed(slots: Iterable[int]) -> list[int]:
    """Convert slots to integers of SQLite: 64 bits with a sign."""
    return array("q", array("Q", slots).tobytes()).tolist()


def _stored(columns: int) -> int | str:
    """Return the bits of columns, as text if the bits do not fit into an integer of SQLite."""
    return columns if columns in _INTEGERS else str(columns)
