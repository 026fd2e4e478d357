"""GTID sets against a real server: text, algebra, bytes."""

import contextlib
import random
from collections.abc import Iterable
from typing import Any

import pytest

from drc.binlog import events as ev
from drc.gtid import GtidSet
from drc.sandbox import Sandbox
from drc.source.dump import reads, start_dump

pytestmark = pytest.mark.servers


@pytest.fixture
def site(pair: Sandbox) -> Any:
    return pair.sites["b"]


@pytest.fixture
def cursor(site: Any) -> Iterable[Any]:
    with contextlib.closing(site.connect()) as conn, conn.cursor() as cursor:
        yield cursor


def random_set(rng: random.Random, uuids: list[bytes]) -> GtidSet:
    out = GtidSet()
    for _ in range(rng.randrange(12)):
        start = rng.randrange(1, 30)
        tag = rng.choice(["", "drc", "drc_b", "_a", "a1"])
        out.add_range(rng.choice(uuids), tag, start, start + rng.randrange(1, 9))
    return out


def test_the_servers_algebra(cursor: Any) -> None:
    rng = random.Random(5)
    uuids = [rng.randbytes(16) for _ in range(3)]
    subsets = 0
    for _ in range(300):
        a, b = random_set(rng, uuids), random_set(rng, uuids)
        b = b | a if rng.random() < 0.2 else b
        cursor.execute(
            "SELECT GTID_SUBTRACT(%(a)s, ''), GTID_SUBTRACT(%(a)s, %(b)s),"
            " GTID_SUBSET(%(a)s, %(b)s), GTID_SUBTRACT(CONCAT(%(a)s, ',', %(b)s), '')",
            {"a": str(a), "b": str(b)},
        )
        same, difference, subset, union = cursor.fetchone()
        assert same.replace("\n", "") == str(a)
        assert difference.replace("\n", "") == str(a - b)
        assert bool(subset) == (a <= b)
        assert union.replace("\n", "") == str(a | b)
        subsets += bool(subset)
    assert 10 < subsets < 290


def first_set(site: Any, executed: GtidSet) -> tuple[bytes, GtidSet]:
    """Start a dump; return the PREVIOUS_GTIDS at the beginning, raw and read."""
    conn = site.connect("drc_source")
    received = b""
    try:
        sock = start_dump(conn, executed, server_id=4001, stream="gtids", heartbeat_s=1)
        for data in reads(sock):
            received += data
            at = 0
            while len(received) >= at + 4:
                end = at + 4 + int.from_bytes(received[at : at + 3], "little")
                if len(received) < end:
                    break
                assert received[at + 4] == 0, received[at:end]
                event = received[at + 5 : end]
                if event[4] == ev.PREVIOUS_GTIDS:
                    body = event[ev.HEADER_BYTES : -ev.CHECKSUM_BYTES]
                    return body, GtidSet.decode(body)
                at = end
    finally:
        conn._force_close()
    raise AssertionError("the dump ended")


def test_the_servers_bytes(site: Any) -> None:
    """Read the set that the server logs at a rotation; writing the set must give the same bytes."""
    for tag in ("", "drc", "drc_b"):
        with contextlib.closing(site.connect("root")) as conn, conn.cursor() as cursor:
            cursor.execute(f"SET gtid_next = 'AUTOMATIC{':' if tag else ''}{tag}'")
            cursor.execute("CREATE DATABASE gtids")
            cursor.execute("DROP DATABASE gtids")
            cursor.execute("SET gtid_next = 'AUTOMATIC'")
            cursor.execute("FLUSH BINARY LOGS")
            cursor.execute("SELECT @@global.gtid_executed")
            text = cursor.fetchone()[0]
        executed = GtidSet.parse(text)
        assert str(executed) == text.replace("\n", "")
        assert len(executed.with_tag(tag)) >= 2
        raw, previous = first_set(site, executed)
        assert previous == executed
        assert raw == executed.encode()
