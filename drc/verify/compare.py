"""Comparison: compares tables of two sites row by row.

Contents: the walk over two row streams in key order, and the results. ``definition.py`` defines
the values and the order of keys, ``packets.py`` reads the bytes.

1. "Identical" means: the same columns, and every row of either side has an equal row at the other.
2. Memory is bounded by two rows of each side and the sample, for tables of any size.
3. Each side is read in a single snapshot. The snapshots of two sites are not of the same moment:
   unless writers pause and replication drains before, differences may be rows in flight.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import xxhash

from drc.errors import InvariantError
from drc.mysql import Connection, ask, quote
from drc.verify import packets as raw
from drc.verify.definition import Definition, Key, define, prepare, tables

SAMPLE = 20  # differences shown per table; an operator needs a few, not a million
_PROGRESS_ROWS = 4096
_SHOWN_BYTES = 200  # of a value in the sample, as a value may have 64 MB

Progress = Callable[[str, int], None]


@dataclass(frozen=True, slots=True)
class RowDifference:
    """A key whose rows differ; the row of a side that lacks the row is None.

    Values are shown as the comparison reads values: ENUM and SET as numbers, bytes as ``0x00ff``.
    """

    key: dict[str, str]
    a: dict[str, str | None] | None
    b: dict[str, str | None] | None

    @property
    def columns(self) -> list[str]:
        """Return the names of the columns that differ; empty when a side lacks the row."""
        if self.a is None or self.b is None:
            return []
        return [name for name, value in self.a.items() if value != self.b[name]]


@dataclass(slots=True)
class TableComparison:
    """The result of comparing a table.

    ``problem`` tells why rows could not be compared. ``keyed`` is False for a table without
    primary or unique key: such a table is compared as a whole and gives no sample.
    """

    schema: str
    table: str
    rows_a: int = 0
    rows_b: int = 0
    only_a: int = 0
    only_b: int = 0
    altered: int = 0
    differences: list[RowDifference] = field(default_factory=list)
    checksum_a: int | None = None
    checksum_b: int | None = None
    problem: str = ""
    keyed: bool = True

    @property
    def name(self) -> str:
        """Return ``schema.table``."""
        return f"{self.schema}.{self.table}"

    @property
    def identical(self) -> bool:
        """Return whether both sides hold the same rows in the same columns."""
        return not (self.problem or self.only_a or self.only_b or self.altered)

    @property
    def checksums_equal(self) -> bool:
        """Return whether CHECKSUM TABLE agrees; equal rows may differ in JSON's free space."""
        return self.checksum_a == self.checksum_b


def compare(
    conn_a: Connection,
    conn_b: Connection,
    *,
    schemas: Sequence[str] = (),
    only: Sequence[tuple[str, str]] = (),
    checksum: bool = True,
    sample: int = SAMPLE,
    progress: Progress | None = None,
) -> list[TableComparison]:
    """Compare tables of two sites; return a result for each table of either site.

    :param conn_a: a session that has no other use, because settings and snapshot are changed;
        ``conn_b`` likewise.
    :param schemas: the schemas to compare; empty: all users' schemas.
    :param only: the tables to compare, as (schema, table); empty: all tables of the schemas.
    :param checksum: whether to run CHECKSUM TABLE too: a second opinion for another scan.
    :param sample: the maximum number of differences to keep for each table.
    :param progress: called with a table's name and the number of rows read so far.
    :raises DrcError: classed by errno.
    """
    conns = (conn_a, conn_b)
    for conn in conns:
        prepare(conn)
    have = [tables(conn, tuple(schemas)) for conn in conns]
    chosen = only or sorted(set(have[0]) | set(have[1]))
    out = []
    for schema, table in chosen:
        result = TableComparison(schema, table)
        absent = [
            site for site, names in zip("ab", have, strict=True) if (schema, table) not in names
        ]
        if absent:
            result.problem = f"does not exist at {' and '.join(absent)}"
        else:
            _compare_table(result, conns, sample, progress)
            if checksum:
                result.checksum_a, result.checksum_b = (_checksum(c, schema, table) for c in conns)
        out.append(result)
    for conn in conns:
        conn.rollback()
    return out


def _compare_table(
    result: TableComparison,
    conns: tuple[Connection, Connection],
    sample: int,
    progress: Progress | None,
) -> None:
    a, b = (define(conn, result.schema, result.table) for conn in conns)
    result.problem = a.difference(b)
    if result.problem:
        return
    streams = (raw.stream(conn, a.select) for conn in conns)
    if a.key:
        _Walk(a, result, sample, progress).run(*streams)
    else:
        result.keyed = False
        _compare_unordered(result, *streams)


def _compare_unordered(result: TableComparison, a: Iterable[bytes], b: Iterable[bytes]) -> None:
    """Compare two unordered row streams by row count and the sum of 128-bit digests."""
    sums = []
    for side in (a, b):
        count = total = 0
        for row in side:
            count += 1
            total += xxhash.xxh3_128_intdigest(row)
        sums.append((count, total))
    (result.rows_a, sum_a), (result.rows_b, sum_b) = sums
    if sum_a != sum_b:
        result.problem = "the rows differ; without a key, drc cannot tell which rows"


class _Walk:
    """A walk over both sides in key order, as in a merge."""

    def __init__(
        self, table: Definition, result: TableComparison, sample: int, progress: Progress | None
    ) -> None:
        self._table = table
        self._result = result
        self._sample = sample
        self._progress = progress

    def run(self, a: Iterator[bytes], b: Iterator[bytes]) -> None:
        """Add the numbers of rows and of differences in two streams to the result.

        :raises InvariantError: a server sends rows in another order than that of the keys here.
        """
        result = self._result
        last_a = last_b = b""
        steps = 0
        row_a, row_b = next(a, None), next(b, None)
        while row_a is not None or row_b is not None:
            side = 0 if row_a == row_b else self._differ(row_a, row_b, last_a, last_b)
            if side <= 0 and row_a is not None:
                result.rows_a += 1
                last_a, row_a = row_a, next(a, None)
            if side >= 0 and row_b is not None:
                result.rows_b += 1
                last_b, row_b = row_b, next(b, None)
            steps += 1
            if self._progress and not steps % _PROGRESS_ROWS:
                self._progress(result.name, result.rows_a)
        if self._progress:
            self._progress(result.name, result.rows_a)

    def _differ(self, a: bytes | None, b: bytes | None, last_a: bytes, last_b: bytes) -> int:
        """Record a difference; return the side to advance: -1 for a, 1 for b, 0 for both."""
        result = self._result
        key_a = self._ordered_key(a, last_a) if a is not None else None
        key_b = self._ordered_key(b, last_b) if b is not None else None
        if key_b is None or (key_a is not None and key_a < key_b):
            result.only_a += 1
            b, side = None, -1
        elif key_a is None or key_b < key_a:
            result.only_b += 1
            a, side = None, 1
        else:
            result.altered += 1
            side = 0
        if len(result.differences) < self._sample:
            result.differences.append(self._show(a, b))
        return side

    def _ordered_key(self, row: bytes, last: bytes) -> Key:
        key = self._table.sort_key(raw.fields(row))
        if last and not self._table.sort_key(raw.fields(last)) < key:
            raise InvariantError(
                "rows do not come in the order of their keys",
                stage="compare",
                table=self._result.name,
                hint="report this with SHOW CREATE TABLE; the comparison is not valid",
            )
        return key

    def _show(self, a: bytes | None, b: bytes | None) -> RowDifference:
        shown = [None if row is None else self._values(row) for row in (a, b)]
        either = shown[0] or shown[1] or {}
        key = {c.name: either[c.name] or "" for c in self._table.key}
        return RowDifference(key, *shown)

    def _values(self, row: bytes) -> dict[str, str | None]:
        values = raw.fields(row)[len(self._table.key) :]
        names = (c.name for c in self._table.columns)
        return {n: None if v is None else _shown(v) for n, v in zip(names, values, strict=True)}


def _shown(value: bytes) -> str:
    """Return a value as text for people; two different values never look the same."""
    if len(value) > _SHOWN_BYTES:
        digest = xxhash.xxh3_64_hexdigest(value)
        return f"{_shown(value[: _SHOWN_BYTES // 2])}… ({len(value):,} bytes, xxh3 {digest})"
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        return "0x" + value.hex()
    return text if text.isprintable() else "0x" + value.hex()


def _checksum(conn: Connection, schema: str, table: str) -> int | None:
    rows = ask(conn, f"CHECKSUM TABLE {quote(schema)}.{quote(table)}")
    return None if rows[0][1] is None else int(rows[0][1])
