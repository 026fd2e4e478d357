"""A topic that lacks needed transactions: the binlog has them, or the data is copied again."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import pytest
from kafka import TopicPartition

from drc.config import Config
from drc.errors import ReseedError
from drc.kafka.kafka_python import open_admin
from drc.kafka.topic import open_topic
from drc.sandbox import Sandbox, SiteSpec
from drc.sandbox.kafka import KafkaCluster
from drc.sandbox.servers import SandboxSite
from drc.site.stream import Stream
from tests.faults.fix_daemon import LONG, StartDaemons, assert_identical

pytestmark = pytest.mark.servers

ROWS, BATCHES = 2048, 40  # of 1 KiB: more than queue and fetched messages hold


def forget(config: Config, site: str) -> None:
    """Delete all messages of a topic, as retention would."""
    with contextlib.closing(open_admin(config, site)) as admin:
        admin.delete_records({TopicPartition(config.topic(site), 0): -1})
    with contextlib.closing(open_topic(config, site)) as topic:
        ends = topic.ends()
        assert ends.end - ends.begin <= 1  # an idle frame may have come since


def insert(site: SandboxSite, schema: str, batches: int = 1) -> None:
    numbers = "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < %s)"
    with site.connect("app") as conn, conn.cursor() as cursor:
        cursor.execute("SET SESSION cte_max_recursion_depth = 10000")
        for batch in range(batches):
            cursor.execute(
                f"INSERT INTO `{schema}`.t {numbers} SELECT i + %s, RANDOM_BYTES(1024) FROM n",
                (ROWS - 1, batch * ROWS),
            )


@contextlib.contextmanager
def locked(site: SandboxSite) -> Iterator[None]:
    """Block all writes at a site."""
    with site.connect("root") as conn, conn.cursor() as cursor:
        cursor.execute("FLUSH TABLES WITH READ LOCK")
        yield


@pytest.mark.parametrize("how", ["away", pytest.param("blocked", marks=LONG)])
def test_what_retention_deleted_is_read_from_the_binlog(
    how: str, pair: Sandbox, kafka: KafkaCluster, schema: str, daemons: StartDaemons
) -> None:
    running = daemons(pair, kafka=kafka, name=f"retention-{how}")
    config, a, b = running["a"].config, pair.sites["a"], pair.sites["b"]
    a.query(f"CREATE TABLE `{schema}`.t (id INT PRIMARY KEY, v VARBINARY(1024))", account="app")
    running["a"].drain(schema)
    since = running["a"].executed()
    with contextlib.ExitStack() as stack:
        if how == "away":
            assert running["b"].stop() == 0
            stack.callback(running["b"].start)
        else:
            stack.enter_context(locked(b))
        insert(a, schema, BATCHES)
        running["a"].await_published("a")
        forget(config, "a")
        assert b.query(f"SELECT COUNT(*) FROM `{schema}`.t") == [(0,)]
    running["b"].drain(schema)
    assert_identical(pair, schema)
    running["a"].assert_accounted(since)
    assert [one.stop() for one in running.values()] == [0, 0]


@pytest.fixture
def purged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """Run a pair for this test alone, as the binlogs are purged."""
    with Sandbox(tmp_path_factory.mktemp("purged"), die_with_parent=True) as box:
        box.up([SiteSpec("a", "9.7"), SiteSpec("b", "9.7")])
        yield box


@LONG
def test_what_the_binlog_has_purged_too_is_named(
    purged: Sandbox, kafka: KafkaCluster, schema: str, daemons: StartDaemons
) -> None:
    running = daemons(purged, kafka=kafka, name="reseed")
    config, a = running["a"].config, purged.sites["a"]
    a.query(f"CREATE TABLE `{schema}`.t (id INT PRIMARY KEY, v VARBINARY(1024))", account="app")
    running["a"].drain(schema)
    assert running["b"].stop() == 0
    before = running["a"].executed()["a"]
    insert(a, schema)
    a.query(f"DELETE FROM `{schema}`.t WHERE id = 7", account="app")
    missing = (running["a"].executed()["a"] - before).with_tag("")
    assert len(missing) == 2
    running["a"].await_published("a")
    forget(config, "a")
    a.query("FLUSH BINARY LOGS")
    a.query(f"PURGE BINARY LOGS TO '{a.query('SHOW BINARY LOGS')[-1][0]}'")
    insert_later = f"INSERT INTO `{schema}`.t VALUES (1000000, 'later')"
    a.query(insert_later, account="app")
    stream = Stream(config, "a", "b", threading.Event())
    ((epoch,),) = purged.sites["b"].query("SELECT MAX(epoch) FROM drc.ledger")
    stream.epoch = lambda: int(epoch)
    with pytest.raises(ReseedError) as caught:
        stream.run()
    assert caught.value.message.endswith(f": {missing}")
    assert stream.progress.state == "need_reseed"
    # A daemon that starts now reports the same before doing anything.
    running["b"].start()
    assert running["b"].wait_exit() == 1
    assert f"at b: {missing}" in running["b"].tail()
    assert running["a"].stop() == 0
