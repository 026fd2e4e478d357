"""Policies by table and column on real servers: both sites write apart, meet, and agree."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

import pytest

from drc.sandbox import Sandbox
from tests.faults.fix_duel import Duel, StartDuel

pytestmark = pytest.mark.servers

MAXIMUM = (
    "CREATE TABLE m (id INT PRIMARY KEY, n INT, d DECIMAL(20, 4), day DATE, at DATETIME(3),"
    " seen TIMESTAMP(6) NULL, lap TIME(2), v VARCHAR(20))"
)
JOINS = {"n": "max", "d": "min", "day": "max", "at": "max", "seen": "max", "lap": "min"}


def policies(schema: str) -> dict[str, object]:
    """Return a policy for each table, as the configuration has them."""
    return {f"{schema}.m": {"columns": JOINS}}


def test_what_both_wrote_is_merged_by_the_policy(
    pair: Sandbox, duel: StartDuel, schema: str
) -> None:
    one = duel(
        pair,
        MAXIMUM,
        "INSERT INTO m VALUES"
        " (1, 5, 5, '2025-01-01', '2025-01-01', '2025-01-01', '1:00:00', 'old'),"
        " (2, 5, 5, NULL, NULL, NULL, NULL, 'old')",
        conflicts={"tables": policies(schema)},
    )
    one.write(
        "a",
        "UPDATE m SET n = 7, d = 4.5, day = '2025-03-01', at = '2025-01-02 03:04:05.678',"
        " seen = '2025-05-01', lap = '0:59:00', v = 'a' WHERE id = 1",
        "UPDATE m SET n = 9, v = 'a again' WHERE id = 1",
        "UPDATE m SET n = 4, v = 'lowered' WHERE id = 2",
    )
    one.write(
        "b",
        "UPDATE m SET n = 8, d = 4.25, day = '2025-02-01', at = '2025-01-02 03:04:05.677',"
        " seen = '2025-05-01 00:00:00.000001', lap = '-0:00:01.5', v = 'b' WHERE id = 1",
        "UPDATE m SET n = 6, v = 'b' WHERE id = 2",
    )
    one.meet()
    assert_the_greatest_stays(one)


def assert_the_greatest_stays(one: Duel) -> None:
    for site in "ab":
        assert one.rows("m", site)[0] == (
            *(1, 9, Decimal("4.2500"), datetime(2025, 3, 1).date()),
            datetime(2025, 1, 2, 3, 4, 5, 678000),
            datetime(2025, 5, 1, 0, 0, 0, 1),
            timedelta(seconds=-1.5),
            "b",
        )
    # At a nobody can tell that 5 was there; b sees it taken back, and leaves the row to a person.
    assert one.brief("b")[-1] == ("id=2", "update_origin_differs", "open")
