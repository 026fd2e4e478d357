"""`drc cdc` on a real server and broker: the content of messages, each once, after any kill."""

from __future__ import annotations

import base64
import contextlib
import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from kafka import TopicPartition

from drc.cdc.envelope import Envelopes
from drc.cdc.position import PublishedTopic
from drc.cdc.publisher import _ROUND_MESSAGES, JsonPublisher
from drc.clock import Mark
from drc.config import Config
from drc.errors import DataError, PreflightError
from drc.gtid import GtidSet
from drc.kafka.frames import FrameEncoder, FrameId
from drc.kafka.kafka_python import open_consumer
from drc.kafka.reader import TopicReader
from drc.kafka.topics import create_topic
from drc.sandbox.kafka import KafkaCluster
from tests.faults.fix_daemon import FULL
from tests.integration.fix_topic import Published
from tests.integration.test_kafka_sandbox import config_of, exchange
from tests.property.test_gate import FORMAT, HISTORY

pytestmark = pytest.mark.servers

_PATIENCE_S = 60.0


class Seen(NamedTuple):
    """A message as a consumer gets messages."""

    key: Any
    value: Any
    headers: dict[str, bytes]

    @property
    def identity(self) -> tuple[str, int]:
        """Return the part that is the same in a message that was written twice."""
        return self.value["transaction"]["id"], self.value["transaction"]["total_order"]


def messages(published: Published, table: str, isolation: str = "read_committed") -> list[Seen]:
    """Return all messages that the topic of a table has now."""
    topic = f"{published.config.topic('a')}.{published.schema}.{table}"
    return read(published.config, topic, isolation)


def read(config: Config, topic: str, isolation: str) -> list[Seen]:
    place, out = TopicPartition(topic, 0), list[Seen]()
    with contextlib.closing(open_consumer(config, "a", isolation)) as consumer:
        consumer.assign([place])
        consumer.seek(place, 0)
        end = consumer.end_offsets([place])[place]
        while consumer.position(place) < end:
            for record in (r for found in consumer.poll(500).values() for r in found):
                value, key = (x and json.loads(x) for x in (record.value, record.key))
                out.append(Seen(key, value, dict(record.headers)))
    return out


class Feed:
    """``drc cdc`` in a thread of this process."""

    def __init__(self, published: Published, start: str = "earliest") -> None:
        self._published, self._stop = published, threading.Event()
        self.worker = JsonPublisher(
            published.config,
            "a",
            start,
            lambda schema, _: schema == published.schema,
            self._stop,
        )
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.worker.run()
        except Exception as error:
            self.error = error

    def wait(self, but: GtidSet | None = None) -> None:
        await_position(self._published, lambda: not self._thread.is_alive(), but)

    def join(self) -> None:
        self._thread.join(_PATIENCE_S)
        assert not self._thread.is_alive()

    def stop(self) -> None:
        self._stop.set()
        self.join()


def await_position(
    published: Published, dead: Callable[[], bool], but: GtidSet | None = None
) -> None:
    """Wait until the committed GTID set has everything that the site has executed by now."""
    known = GtidSet.parse(published.known) | (but or GtidSet())
    wanted = (GtidSet.parse(published.executed()) - known).with_tag("")
    positions, deadline = PublishedTopic(published.config, "a"), time.monotonic() + _PATIENCE_S
    while not wanted <= (positions.read() or GtidSet()):
        assert not dead(), "it has ended"
        assert time.monotonic() < deadline


@pytest.fixture
def feed(published: Published) -> Iterator[Callable[[], Feed]]:
    feeds: list[Feed] = []

    def start() -> Feed:
        feeds.append(Feed(published))
        return feeds[-1]

    yield start
    for one in feeds:
        one.stop()


def test_messages_of_every_change(published: Published, feed: Callable[[], Feed]) -> None:
    schema = published.schema
    running = feed()
    published.run(
        f"INSERT INTO {schema}.t VALUES (1, 'a')",
        f"UPDATE {schema}.t SET a = 'b'",
        f"UPDATE {schema}.t SET id = 2",
        f"DELETE FROM {schema}.t",
        "SET gtid_next = 'AUTOMATIC:drc'",
        f"INSERT INTO {schema}.t VALUES (3, 'came from elsewhere')",
        "SET gtid_next = 'AUTOMATIC'",
    )
    running.wait()
    seen = messages(published, "t")
    one, other = {"id": 1, "a": "b"}, {"id": 2, "a": "b"}
    first = {"id": 1, "a": "a"}
    shown = [
        (m.key, m.value and (m.value["op"], m.value["before"], m.value["after"])) for m in seen
    ]
    assert shown == [
        ({"id": 1}, ("c", None, first)),
        ({"id": 1}, ("u", first, one)),
        ({"id": 1}, ("d", one, None)),
        ({"id": 1}, None),
        ({"id": 2}, ("c", None, other)),
        ({"id": 2}, ("d", other, None)),
        ({"id": 2}, None),
    ]
    assert seen[2].headers == {"__debezium.newkey": b'{"id":2}'}
    assert seen[4].headers == {"__debezium.oldkey": b'{"id":1}'}
    source = seen[0].value["source"]
    assert (source["connector"], source["db"], source["table"]) == ("mysql", schema, "t")
    assert source["server_id"] == published.site.query("SELECT @@server_id")[0][0]
    assert abs(source["ts_ms"] - seen[0].value["ts_ms"]) < 60_000
    assert seen[2].identity[0] == seen[4].identity[0]
    assert [m.identity[1] for m in (seen[2], seen[4])] == [1, 2]


def test_values_of_every_type(published: Published, feed: Callable[[], Feed]) -> None:
    columns = {
        "id": ("BIGINT UNSIGNED PRIMARY KEY", "18446744073709551615", 2**64 - 1),
        "ti": ("TINYINT", "-7", -7),
        "de": ("DECIMAL(20,4)", "-12.5", "-12.5000"),
        "fl": ("FLOAT", "1.5", 1.5),
        "dt": ("DATE", "'1969-12-31'", -1),
        "d0": ("DATETIME", "'1970-01-01 00:00:01'", 1000),
        "d6": ("DATETIME(6)", "'1970-01-01 00:00:01.000002'", 1_000_002),
        "t0": ("TIMESTAMP NULL", "'2026-01-02 03:04:05'", "2026-01-02T03:04:05Z"),
        "t3": ("TIMESTAMP(3) NULL", "'2026-01-02 03:04:05.678'", "2026-01-02T03:04:05.678Z"),
        "tm": ("TIME(3)", "'-01:00:00'", -3_600_000_000),
        "yr": ("YEAR", "2026", 2026),
        "b1": ("BIT(1)", "b'1'", True),
        "b9": ("BIT(9)", "b'100000010'", base64.b64encode(b"\x02\x01").decode()),
        "bi": ("BINARY(4)", "x'0100'", base64.b64encode(b"\x01\0\0\0").decode()),
        "bl": ("BLOB", "x'00ff'", base64.b64encode(b"\0\xff").decode()),
        "tx": ("TEXT CHARACTER SET latin1", "'é'", "é"),
        "js": ("JSON", '\'{"k": [1, "z", null]}\'', '{"k":[1,"z",null]}'),
        "en": ("ENUM('x','y')", "'y'", "y"),
        "se": ("SET('x','y')", "'y,x'", "x,y"),
        "nu": ("INT", "NULL", None),
        "po": (
            "POINT",
            "ST_GeomFromText('POINT(1 2)', 4326, 'axis-order=long-lat')",
            {"wkb": "AQEAAAAAAAAAAADwPwAAAAAAAABA", "srid": 4326},
        ),
    }
    table = f"{published.schema}.w"
    running = feed()
    published.run(
        f"CREATE TABLE {table} ({', '.join(f'{n} {c[0]}' for n, c in columns.items())})",
        "SET time_zone = '+00:00'",
        f"INSERT INTO {table} VALUES ({', '.join(c[1] for c in columns.values())})",
    )
    running.wait()
    (seen,) = messages(published, "w")
    assert seen.value["after"] == {name: column[2] for name, column in columns.items()}


def test_what_the_decoder_gets_wrong(published: Published, feed: Callable[[], Feed]) -> None:
    """Pin the errors that docs/reference/json-topic.md names; a newer library may have fewer."""
    columns = {
        "id": ("INT PRIMARY KEY", "1", 1),
        "dz": ("DATE", "'0000-00-00'", None),
        "dm": ("DATETIME", "'2026-00-01 00:00:00'", None),
        "tz": ("TIMESTAMP NULL", "'0000-00-00'", "1970-01-01T00:00:00Z"),
        "yz": ("YEAR", "0", 1900),
        "sz": ("SET('x')", "''", None),
        "tf": ("TIME(3)", "'-01:00:01.250'", -3_601_750_000),
        "jd": (
            "JSON",
            "JSON_OBJECT('x', CAST(1.10 AS DECIMAL(5,2)), 't', true)",
            '{"t":true,"x":"1.10"}',
        ),
        "jt": (
            "JSON",
            "JSON_OBJECT('d', CAST('2026-01-02' AS DATE))",
            '{"d":"2026-01-02T00:00:00"}',
        ),
    }
    table = f"{published.schema}.w"
    running = feed()
    published.run(
        "SET sql_mode = ''",
        f"CREATE TABLE {table} ({', '.join(f'{n} {c[0]}' for n, c in columns.items())})",
        f"INSERT INTO {table} VALUES ({', '.join(c[1] for c in columns.values())})",
    )
    running.wait()
    (seen,) = messages(published, "w")
    assert seen.value["after"] == {name: column[2] for name, column in columns.items()}


def test_xa_comes_with_its_outcome(published: Published, feed: Callable[[], Feed]) -> None:
    running = feed()
    insert = f"INSERT INTO {published.schema}.t VALUES"
    before = GtidSet.parse(published.executed())
    published.run("XA START 'one'", f"{insert} (1, 'kept')", "XA END 'one'", "XA PREPARE 'one'")
    prepared = GtidSet.parse(published.executed()) - before
    published.run(
        f"{insert} (2, 'between')",
        "XA START 'two'",
        f"{insert} (3, 'gone')",
        "XA END 'two'",
        "XA PREPARE 'two'",
    )
    published.run("XA ROLLBACK 'two'")
    running.wait(but=prepared)
    running.stop()  # forgets the prepared transactions
    again = feed()
    published.run("XA COMMIT 'one'")
    again.wait()
    assert [m.key["id"] for m in messages(published, "t")] == [2, 1]


def test_what_cannot_be_decoded_stops_it_by_name(
    published: Published, feed: Callable[[], Feed]
) -> None:
    running = feed()
    published.run(
        f"CREATE TABLE {published.schema}.v (id INT PRIMARY KEY, e VECTOR(2))",
        f"INSERT INTO {published.schema}.v VALUES (1, STRING_TO_VECTOR('[1,2]'))",
    )
    running.join()
    assert isinstance(running.error, DataError)
    assert running.error.table == f"{published.schema}.v"
    assert "--exclude" in running.error.hint


def test_a_second_process_takes_over(published: Published, feed: Callable[[], Feed]) -> None:
    first = feed()
    published.run(f"INSERT INTO {published.schema}.t VALUES (1, 'a')")
    first.wait()
    second = feed()
    second.wait()
    published.run(f"INSERT INTO {published.schema}.t VALUES (2, 'a')")
    first.join()
    assert isinstance(first.error, PreflightError)
    assert "run a single `drc cdc`" in first.error.hint
    second.wait()
    assert [m.key["id"] for m in messages(published, "t")] == [1, 2]


def test_now_is_the_time_of_the_first_start(published: Published) -> None:
    for key in range(3):
        feed = Feed(published, "now")
        feed.wait()
        feed.stop()
        published.run(f"INSERT INTO {published.schema}.t VALUES ({key}, 'a')")
        with TopicReader(published.config, "a", published.known) as reader:
            published.read(reader)  # in the topic, but not published as JSON
    feed = Feed(published, "now")
    feed.wait()
    feed.stop()
    assert [m.key["id"] for m in messages(published, "t")] == [0, 1, 2]


@pytest.mark.parametrize("round_messages", [1, _ROUND_MESSAGES])
def test_a_torn_large_transaction_is_rolled_back(
    kafka: KafkaCluster, round_messages: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Write frames of a publisher that died inside a transaction, then of the next publisher."""
    monkeypatch.setattr("drc.cdc.publisher._ROUND_MESSAGES", round_messages)
    name = f"torn{round_messages}"
    config = config_of(kafka, name)
    create_topic(config, "a")
    large = next(i for i, t in enumerate(HISTORY) if not t.whole)
    frames: list[bytes] = []
    for epoch, begin, end in ((1, 0, large + 1), (2, large, len(HISTORY))):
        covered = GtidSet.of(t.gtid for t in HISTORY[:begin])
        for seq, transaction in enumerate(HISTORY[begin:end]):
            covered.add(transaction.gtid)
            frames += FrameEncoder(f"{name}/a", 1 << 20).encode(
                FrameId(epoch, bytes([epoch] * 8), seq), FORMAT, covered, [transaction], Mark()
            )
    exchange(config, *frames)
    stop = threading.Event()
    worker = JsonPublisher(config, "a", "earliest", lambda *_: True, stop)
    thread = threading.Thread(target=worker.run)
    thread.start()
    deadline = time.monotonic() + _PATIENCE_S
    wanted, positions = GtidSet.of(t.gtid for t in HISTORY), PublishedTopic(config, "a")
    while not wanted <= (positions.read() or GtidSet()):
        assert time.monotonic() < deadline, worker.progress.reason
    stop.set()
    thread.join()
    assert worker.progress.sessions == 1
    topic = f"{config.topic('a')}.shop.users"
    envelopes = Envelopes(config.topic("a"), lambda *_: True, lambda: 0)
    keys = [json.loads(m.key or b"") for t in HISTORY for m in envelopes.messages(t)]
    assert [m.key for m in read(config, topic, "read_committed")] == keys
    assert len(read(config, topic, "read_uncommitted")) > len(keys)


def test_killed_again_and_again(published: Published) -> None:
    """Compare committed messages with the table's history; uncommitted reads repeat few."""
    schema, kills = published.schema, 6 if FULL else 3
    command = [sys.executable, "-m", "drc.cli", "cdc", "-c", str(published.path), "--site", "a"]
    command += ["--start", "earliest", "--tables", f"{schema}.*"]
    ended, written = threading.Event(), Counter[str]()

    def load() -> None:
        with published.site.connect("root") as conn, conn.cursor() as cursor:
            key = 0
            while not ended.is_set():
                key += 1
                cursor.execute(f"INSERT INTO {schema}.t VALUES ({key}, 'x')")
                cursor.execute(f"UPDATE {schema}.t SET a = 'y' WHERE id > {key - 50}")
                written.update(rows=cursor.rowcount + 1)

    loader = threading.Thread(target=load)
    loader.start()
    log = published.path.parent / "cdc.log"
    try:
        with open(log, "ab") as err:
            for _ in range(kills):
                before = PublishedTopic(published.config, "a").read()
                process = subprocess.Popen(command, stderr=err)
                deadline = time.monotonic() + _PATIENCE_S
                while PublishedTopic(published.config, "a").read() == before:
                    assert process.poll() is None, log.read_text()
                    assert time.monotonic() < deadline
                process.kill()
                process.wait()
        ended.set()
        loader.join()
        with open(log, "ab") as err:
            process = subprocess.Popen(command, stderr=err)
            await_position(published, lambda: process.poll() is not None)
            process.terminate()
            assert process.wait(30) == 0
    finally:
        ended.set()
        loader.join()
    committed = [m.identity for m in messages(published, "t")]
    every = [m.identity for m in messages(published, "t", "read_uncommitted")]
    print(
        f"\n{written['rows']} changes, {len(every) - len(set(every))} of them twice, {kills} kills"
    )
    assert len(committed) == len(set(committed)) == written["rows"]
    assert set(every) == set(committed)
    assert len(every) - len(committed) <= kills * 2 * _ROUND_MESSAGES
    table: dict[int, str] = {}
    for seen in messages(published, "t"):
        table[seen.key["id"]] = seen.value["after"]["a"]
    assert table == dict(published.site.query(f"SELECT id, a FROM {schema}.t"))
