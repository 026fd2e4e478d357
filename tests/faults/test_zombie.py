"""A publisher that is replaced while frozen, and goes on without knowing of the replacement."""

from __future__ import annotations

import contextlib
import threading
from typing import Any

import pytest

from drc.binlog.transaction import RawTransaction
from drc.config import Config
from drc.errors import DrcError, PreflightError
from drc.kafka import publisher
from drc.kafka.frames import decode_chunk
from drc.kafka.publisher import Publisher
from drc.kafka.topic import open_topic
from drc.sandbox import Sandbox
from drc.sandbox.kafka import KafkaCluster
from tests.faults.fix_daemon import StartDaemons, assert_identical, wait_until

pytestmark = pytest.mark.servers

WAIT_S = 60


class Running:
    """A publisher in a thread; ``error`` is the error that ended the publisher."""

    def __init__(self, config: Config, site: str) -> None:
        self.stop = threading.Event()
        self.publisher = Publisher(config, site, self.stop)
        self.error: DrcError | None = None
        self.thread = threading.Thread(target=self._run)
        self.thread.start()
        wait_until(lambda: self.publisher.progress.state == "running", wait_s=WAIT_S)

    def _run(self) -> None:
        try:
            self.publisher.run()
        except DrcError as error:
            self.error = error

    def end(self) -> None:
        self.stop.set()
        self.thread.join(WAIT_S)


class Freezer:
    """A freezer that stops a publisher between reading and sending, once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.victim: threading.Event | None = None
        self.reached, self.thaw = threading.Event(), threading.Event()
        send = publisher._Session._send

        def freezing(session: Any, transactions: list[RawTransaction]) -> None:
            if transactions and session._stop is self.victim and not self.reached.is_set():
                self.reached.set()
                assert self.thaw.wait(WAIT_S)
            send(session, transactions)

        monkeypatch.setattr(publisher._Session, "_send", freezing)


def epochs(config: Config, site: str) -> list[int]:
    with contextlib.closing(open_topic(config, site)) as topic:
        return [decode_chunk(message).frame_id.epoch for message in topic.between(*topic.ends())]


def test_a_replaced_publisher_stops_and_nothing_comes_twice(
    pair: Sandbox,
    kafka: KafkaCluster,
    schema: str,
    daemons: StartDaemons,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    daemon = daemons(pair, kafka=kafka, name="zombie")
    config, a, b = daemon["a"].config, pair.sites["a"], pair.sites["b"]
    a.query(f"CREATE TABLE `{schema}`.t (id INT PRIMARY KEY)", account="app")
    daemon["a"].drain(schema)
    since = daemon["a"].executed()
    assert daemon["a"].stop() == 0
    freezer = Freezer(monkeypatch)
    with contextlib.ExitStack() as stack:

        def arrives(row: int) -> None:
            a.query(f"INSERT INTO `{schema}`.t VALUES (%s)", (row,), account="app")
            wait_until(
                lambda: b.query(f"SELECT 1 FROM `{schema}`.t WHERE id = %s", (row,)), wait_s=WAIT_S
            )

        old = Running(config, "a")
        stack.callback(old.end)
        stack.callback(freezer.thaw.set)
        arrives(1)
        freezer.victim = old.stop
        a.query(f"INSERT INTO `{schema}`.t VALUES (2)", account="app")
        assert freezer.reached.wait(WAIT_S)
        new = Running(config, "a")
        stack.callback(new.end)
        arrives(3)
        freezer.thaw.set()
        old.thread.join(WAIT_S)
        assert isinstance(old.error, PreflightError)
        assert "another daemon publishes for site a" in old.error.message
        arrives(4)
        new.end()
        assert new.error is None
    # The old publisher did write after the new publisher: the gate alone lets nothing through.
    written = epochs(config, "a")
    assert sorted(written) != written
    daemon["a"].start()
    daemon["a"].drain(schema)
    assert_identical(pair, schema)
    daemon["a"].assert_accounted(since)
    assert [one.stop() for one in daemon.values()] == [0, 0]
