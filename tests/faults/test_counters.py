"""Counters that both sites add to at the same time: no increment is lost or doubled."""

from __future__ import annotations

import random
from collections import Counter

import pymysql
import pytest

from drc.sandbox import Sandbox
from drc.sandbox.kafka import KafkaCluster
from tests.faults.fix_daemon import LONG, StartDaemon, assert_identical
from tests.faults.test_conflicts import HOT_KEYS, Client, kills, log, prepare, storm

__all__ = ["log"]  # a fixture


class Counting(Client):
    """An application that adds to counters of two types, and writes the name of the last site."""

    def _change(self, cursor: pymysql.cursors.Cursor) -> tuple[int, int]:
        key, amount = self._rng.randrange(HOT_KEYS), self._rng.randint(-5, 9)
        cursor.execute(
            "UPDATE hot SET n = n + %s, d = d + %s * 0.01, v = %s WHERE id = %s",
            (amount, amount, f"{self._site.name}{self._rng.random()}", key),
        )
        return key, amount


@pytest.mark.timeout(900)
@pytest.mark.parametrize("log", ["direct", pytest.param("kafka", marks=LONG)], indirect=True)
def test_the_sum_of_what_was_acknowledged_stays(
    pair: Sandbox, schema: str, daemon: StartDaemon, log: KafkaCluster | None
) -> None:
    policy = {"columns": {"n": "delta", "d": "delta"}}
    running = daemon(pair, kafka=log, conflicts={"tables": {f"{schema}.hot": policy}})
    prepare(pair, schema, running)
    first, *_ = pair.sites.values()
    first.query(f"ALTER TABLE `{schema}`.hot ADD d DECIMAL(20, 4) NOT NULL DEFAULT 0", (), "app")
    running.drain(schema)
    for site in pair.sites.values():
        site.query("DELETE FROM drc.conflict")
    rng = random.Random(1)
    clients = storm(pair, schema, Counting, during=lambda: kills(running, rng))
    running.drain(schema)
    assert_identical(pair, schema)
    told: Counter[int] = Counter()
    for client in clients:
        told.update(client.added)
    found = first.query(f"SELECT id, n, d * 100 FROM `{schema}`.hot ORDER BY id")
    assert [tuple(map(int, row)) for row in found] == [
        (key, told[key], told[key]) for key in range(HOT_KEYS)
    ]
    for site in pair.sites.values():
        assert site.query("SELECT DISTINCT winner FROM drc.conflict") in ([("merged",)], [])
    assert any(site.query("SELECT 1 FROM drc.conflict LIMIT 1") for site in pair.sites.values())
