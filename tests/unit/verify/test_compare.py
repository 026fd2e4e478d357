"""The walk over two row streams in key order: differences found, and little memory held."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

import pytest

from drc.binlog.events import pack_lenenc
from drc.errors import InvariantError
from drc.verify.compare import TableComparison, _shown, _Walk
from drc.verify.definition import ColumnDefinition, Definition, _microseconds


def column(name: str, kind: str = "int") -> ColumnDefinition:
    return ColumnDefinition(
        name,
        kind,
        full_type=kind,
        collation="",
        nullable=False,
        extra="",
        srs_id=None,
        width=0,
        pad=b"",
    )


TABLE = Definition("s", "t", (column("id"), column("v", "varbinary")), (column("id"),))


def packet(key: int, value: str) -> bytes:
    """Return a row as a packet of the server: sort field, then the columns."""
    texts = (str(key), str(key), value)
    return b"".join(pack_lenenc(len(t)) + t.encode() for t in texts)


def packets(rows: dict[int, str]) -> Iterator[bytes]:
    return (packet(key, rows[key]) for key in sorted(rows))


def walk(a: Iterator[bytes], b: Iterator[bytes], sample: int = 20) -> TableComparison:
    result = TableComparison("s", "t")
    _Walk(TABLE, result, sample, None).run(a, b)
    return result


def test_finds_exactly_the_differences_of_random_tables() -> None:
    rng = random.Random(7)
    for _ in range(300):
        a = {rng.randrange(40): rng.choice("xy") for _ in range(rng.randrange(30))}
        b = {k: rng.choice("xy") if rng.random() < 0.2 else v for k, v in a.items()}
        b = {k: v for k, v in b.items() if rng.random() > 0.1}
        b |= {rng.randrange(40): "x" for _ in range(rng.randrange(3))}
        result = walk(packets(a), packets(b), sample=100)
        assert result.rows_a == len(a)
        assert result.rows_b == len(b)
        found = {int(d.key["id"]): (d.a is not None, d.b is not None) for d in result.differences}
        wanted = {k: (k in a, k in b) for k in a.keys() | b.keys() if a.get(k) != b.get(k)}
        assert found == wanted
        assert result.identical == (a == b)


def test_keys_sort_as_numbers_not_as_text() -> None:
    result = walk(packets({9: "x", 10: "x"}), packets({10: "x"}))
    assert (result.only_a, result.only_b, result.altered) == (1, 0, 0)


def test_a_million_missing_rows_are_counted_and_not_held() -> None:
    many = (packet(key, "x") for key in itertools.count())
    result = walk(itertools.islice(many, 100_000), iter([packet(5, "x")]))
    assert result.only_a == 99_999
    assert len(result.differences) == 20


def test_rows_out_of_order_are_refused() -> None:
    wrong = [packet(2, "x"), packet(1, "x")]
    with pytest.raises(InvariantError, match="order"):
        walk(iter(wrong), packets({1: "x", 2: "x"}))


def test_the_difference_names_the_column() -> None:
    (difference,) = walk(packets({1: "x"}), packets({1: "y"})).differences
    assert difference.columns == ["v"]


@pytest.mark.parametrize(
    ("text", "us"),
    [(b"-838:59:59.000001", -3020399000001), (b"00:00:00.5", 500000), (b"01:00:00", 3600000000)],
)
def test_times_sort_by_their_value(text: bytes, us: int) -> None:
    assert _microseconds(text) == us


def test_long_values_that_differ_look_different() -> None:
    a, b = b"x" * 5000 + b"a", b"x" * 5000 + b"b"
    assert _shown(a) != _shown(b)
    assert len(_shown(a)) < 300
