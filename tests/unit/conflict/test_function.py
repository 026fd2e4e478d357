"""User functions: the arguments, and the meaning of the answers at each of the two sites."""

from __future__ import annotations

import threading
from decimal import Decimal
from typing import Any

import pytest

from drc.binlog import events as ev
from drc.binlog.events import Column
from drc.conflict.function import Asked, Conflict, Version, load, load_all
from drc.conflict.resolver import ConflictKind, RowAction, Winner
from drc.errors import ConfigError, DataError
from drc.policy import Policies, TablePolicy
from drc.rows.literals import literal
from drc.settle.ask import Sides, encode, merged
from drc.testing.tables import table_map

KIND = ConflictKind.UPDATE_ORIGIN_DIFFERS
BASE, A, B = {"n": 0}, Version({"n": 1}, 10, "a"), Version({"n": 2}, 20, "b")
GONE = Version(None, 30, "b")


def verdicts(answer: Any, one: Version = A, other: Version = B) -> list[Any]:
    """Return a function's verdicts: ``one`` is remote in the first, local in the second."""
    asked = Asked("m:f", answer if callable(answer) else lambda _: answer)
    return [asked.verdict(KIND, "s.t", BASE, *sides) for sides in ((one, other), (other, one))]


def test_both_sites_ask_the_same() -> None:
    given: list[Conflict] = []
    verdicts(given.append)
    assert given[0] == given[1] == Conflict("s.t", BASE, A, B)


@pytest.mark.parametrize(("answer", "remote"), [("earlier", 0), ("later", 1)])
def test_one_write_stays(answer: str, remote: int) -> None:
    found = verdicts(answer)
    assert found[remote].decision.action is RowAction.WRITE
    assert found[1 - remote].decision.action is RowAction.KEEP
    assert {v.decision.winner for v in found} == {Winner.REMOTE, Winner.LOCAL}
    assert {v.decision.reason for v in found} == {f"m:f took the {answer} write"}


def test_values_are_set_in_the_later_version_or_in_the_one_that_is_there() -> None:
    for one, kept in ((B, False), (GONE, True)):
        at_its_peer, at_home = verdicts({"n": 5}, A, one)
        assert (at_its_peer.remote, at_home.remote) == (kept, not kept)
        assert dict(at_home.values) == {"n": 5}
        assert at_home.decision.winner is Winner.MERGED


def test_a_delete_may_stay() -> None:
    assert [v.decision.action for v in verdicts("later", A, GONE)] == [
        RowAction.KEEP,
        RowAction.DELETE,
    ]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (lambda _: 1 / 0, "ZeroDivisionError: division by zero"),
        (lambda c: c.later.values.update(n=1), "AttributeError"),
        (None, "the function leaves the row to an operator"),
        ("remote", "the answer is not valid: 'remote'"),
        (7, "the answer is not valid: 7"),
        ({"m": 1}, "the answer sets m, which the row does not have"),
    ],
)
def test_what_is_no_answer_leaves_the_row_open(answer: Any, why: str) -> None:
    for verdict in verdicts(answer):
        assert verdict.decision.winner is Winner.OPEN
        assert why in verdict.decision.reason


def test_a_function_that_hangs_is_not_asked_for_ever() -> None:
    forever, calls = threading.Event(), list[Conflict]()

    def hang(conflict: Conflict) -> None:
        calls.append(conflict)
        forever.wait()

    asked = Asked("m:f", hang, answer_s=0.01)
    found = [asked.verdict(KIND, "s.t", BASE, A, B).decision for _ in range(5)]
    forever.set()
    assert len(calls) == 3
    assert {d.winner for d in found} == {Winner.OPEN}
    assert "no answer within 0.01 s" in found[0].reason
    assert "is not asked until a restart" in found[-1].reason


@pytest.mark.parametrize("name", ["no_such_module:f", "drc.errors:nothing", "drc.errors:__doc__"])
def test_a_function_that_is_not_there_is_told_at_the_start(name: str) -> None:
    policies = Policies(TablePolicy(), {"s.t": TablePolicy(policy="function", function=name)})
    with pytest.raises(ConfigError, match=r'conflicts.tables."s.t".function'):
        load_all(policies)
    assert load("math:floor") is load("math:floor")


def test_function_belongs_to_function() -> None:
    with pytest.raises(ValueError, match="policy function of a table needs"):
        TablePolicy(policy="function")
    with pytest.raises(ValueError, match="policy function of a table needs"):
        TablePolicy(function="m:f")
    with pytest.raises(ValueError, match="columns cannot be set"):
        TablePolicy(policy="function", function="m:f", columns={"n": "max"})


# ------------------------------------------------------------ values

UTF8 = 255
NUMBER = Column("n", ev.TYPE_NEWDECIMAL, 6 << 8 | 2, nullable=True)
TEXT = Column("v", ev.TYPE_VARCHAR, 12, nullable=True, collation=UTF8)
TABLE = table_map("s", "t", [Column("id", ev.TYPE_TINY, 0, nullable=False), NUMBER, TEXT], [0])


@pytest.mark.parametrize(
    ("column", "value", "text"),
    [
        (NUMBER, "1.50", "1.50"),
        (NUMBER, 7, "7.00"),
        (NUMBER, None, "NULL"),
        (TEXT, "äöü", "_utf8mb4 X'c3a4c3b6c3bc'"),
        (Column("c", ev.TYPE_STRING, 12, nullable=True, collation=UTF8), "a  ", "_utf8mb4 X'61'"),
        (Column("c", ev.TYPE_BLOB, 2, nullable=True, collation=UTF8), "a ", "_utf8mb4 X'6120'"),
        (
            Column("c", ev.TYPE_DATETIME2, 3, nullable=True),
            "2025-01-02T03:04:05.678900",
            "'2025-01-02 03:04:05.678'",
        ),
        (Column("c", ev.TYPE_DATE, 0, nullable=True), "2025-01-02", "'2025-01-02'"),
    ],
)
def test_values_are_written_as_the_server_would(column: Column, value: Any, text: str) -> None:
    assert literal(column, encode(column, value)) == text


@pytest.mark.parametrize(
    ("column", "value"),
    [
        (NUMBER, "1.505"),
        (NUMBER, "12345.00"),
        (NUMBER, "x"),
        (NUMBER, 1.5),
        (NUMBER, True),
        (TEXT, "four"),
        (TEXT, 4),
        (Column("c", ev.TYPE_TINY, 0, nullable=False), None),
        (Column("c", ev.TYPE_DATE, 0, nullable=True), "2025-02-31"),
        (Column("c", ev.TYPE_VARCHAR, 40, nullable=True, collation=28), "a"),
        (Column("c", ev.TYPE_JSON, 4, nullable=True), "{}"),
    ],
)
def test_values_that_do_not_fit_are_refused(column: Column, value: Any) -> None:
    with pytest.raises(DataError):
        encode(column, value)


def test_a_value_of_a_version_keeps_its_bytes() -> None:
    remote = (b"\x01", b"\x80\x00\x07\x00", b"\x01r")
    after = {"id": 1, "n": Decimal(7), "v": "r"}
    here = {"id": 1, "n": Decimal(7), "v": "h"}
    sides = Sides(remote, after, here, later_is_remote=True)
    assert merged(TABLE, sides, {"v": "r"}, remote=False) == {2: b"\x01r"}
    assert merged(TABLE, sides, {"v": "h"}, remote=True) == {0: b"\x01", 1: remote[1]}
    assert merged(TABLE, sides, {"n": Decimal(7)}, remote=False) == {1: remote[1]}
    earlier = sides._replace(later_is_remote=False)
    assert merged(TABLE, earlier, {"n": Decimal(7)}, remote=False) == {}
    with pytest.raises(DataError, match="primary key"):
        merged(TABLE, sides, {"id": 2}, remote=False)
