"""A site with a publisher: the binlog goes to a topic on a real broker."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka import TopicPartition

from drc import cli, config
from drc.binlog.transaction import RawTransaction
from drc.config import Config
from drc.gtid import GtidSet
from drc.kafka.kafka_python import open_admin
from drc.kafka.publisher import Publisher
from drc.kafka.reader import TopicReader
from drc.kafka.topic import open_topic
from drc.sandbox import ConfigSpec, Sandbox
from drc.sandbox.kafka import KafkaCluster
from tests.faults.fix_daemon import forget_streams


class Published:
    """Site a with a publisher; ``known`` is the set that a had executed before the topic began."""

    def __init__(self, box: Sandbox, path: Path, schema: str) -> None:
        self.site, self.path, self.schema = box.sites["a"], path, schema
        self.config: Config = config.load(path)
        self.known = self.executed()

    def executed(self) -> str:
        return str(self.site.query("SELECT @@GLOBAL.gtid_executed")[0][0]).replace("\n", "")

    def run(self, *statements: str) -> None:
        with self.site.connect("root") as conn, conn.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def read(self, reader: TopicReader, until: str | None = None) -> list[RawTransaction]:
        """Read until everything that the site has executed by now has come."""
        wanted, out = GtidSet.parse(until or self.executed()), list[RawTransaction]()
        while not wanted <= reader.already_read:
            out += reader.read()
        return out

    def cut(self, offset: int) -> None:
        """Delete all messages before ``offset``, as retention does."""
        place = TopicPartition(self.config.topic("a"), 0)
        with contextlib.closing(open_admin(self.config, "a")) as admin:
            admin.delete_records({place: offset})


@pytest.fixture
def published(
    pair: Sandbox, kafka: KafkaCluster, schema: str, tmp_path: Path
) -> Iterator[Published]:
    path = pair.write_config(
        tmp_path / "pair.toml",
        ConfigSpec(
            kafka=kafka,
            name=f"reader-{schema}",
            start="now",
            apply={"transaction_stream_bytes": 20_000},
        ),
    )
    out = Published(pair, path, schema)
    assert cli.invoke(["migrate", "-c", str(path)]) == 0
    forget_streams(pair)
    assert cli.invoke(["migrate", "-c", str(path)]) == 0  # else the publisher notes the servers
    out.known = out.executed()
    stop = threading.Event()
    thread = threading.Thread(target=Publisher(out.config, "a", stop).run)
    thread.start()
    with contextlib.closing(open_topic(out.config, "a")) as topic:
        topic.seek(0)
        assert topic.poll(30.0), "no publisher's first frame"
    out.run(
        f"CREATE DATABASE {schema}",
        f"CREATE TABLE {schema}.t (id INT PRIMARY KEY, a VARCHAR(999))",
    )
    try:
        yield out
    finally:
        stop.set()
        thread.join()
        out.run(f"DROP DATABASE {schema}")
