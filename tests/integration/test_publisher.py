"""A publisher that takes transactions from the site's watcher: no gap, nothing twice."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from drc import cli, config
from drc.binlog.transaction import RawTransaction, TransactionKind
from drc.config import Config
from drc.conflict.live import LiveIndex
from drc.gtid import GtidSet
from drc.kafka import publisher as module
from drc.kafka.frames import Assembler, Frame, decode_chunk, decode_frame
from drc.kafka.publisher import Publisher
from drc.kafka.topic import open_topic
from drc.pipe.tee import Branch
from drc.sandbox import ConfigSpec, Sandbox
from drc.sandbox.kafka import KafkaCluster
from drc.site.watcher import Watcher
from drc.source.reader import Reader
from drc.source.resume import native_set
from drc.source.site import SourceSite
from tests.faults.fix_daemon import forget_streams

pytestmark = [pytest.mark.servers, pytest.mark.timeout(120)]

WAIT_S = 30
PART_BYTES = 20_000  # larger transactions come in parts
QUEUE_BYTES = 1 << 20


def wait(true: Callable[[], object], what: str = "") -> None:
    deadline = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


class Site:
    """Site a with a table; watcher and publisher run in threads."""

    def __init__(self, box: Sandbox, path: Path, schema: str) -> None:
        self.server, self.schema = box.sites["a"], schema
        loaded = config.load(path)
        apply = msgspec.structs.replace(loaded.apply, queue_bytes_max=QUEUE_BYTES)
        self.config: Config = msgspec.structs.replace(loaded, apply=apply)
        self.stop = threading.Event()
        index = LiveIndex("a", self.config.sites, 1_000_000)
        self.watcher = Watcher(self.config, "a", self.stop, index)
        self.behind = threading.Event()
        self.publisher = Publisher(
            self.config, "a", self.stop, self.watcher.tee, self.behind.is_set
        )
        self.threads: list[threading.Thread] = []

    def start(self, worker: Watcher | Publisher) -> None:
        thread = threading.Thread(target=worker.run)
        self.threads.append(thread)
        thread.start()
        wait(lambda: worker.progress.state == "running", f"{worker.name} does not run")

    def follows(self) -> bool:
        return isinstance(self.publisher.progress._inlet, Branch)

    def executed(self) -> GtidSet:
        return GtidSet.parse(self.server.query("SELECT @@GLOBAL.gtid_executed")[0][0])

    def native(self) -> GtidSet:
        return native_set(self.executed(), set())  # the watcher's notes are not native

    def dumps(self) -> list[int]:
        found = self.server.query(
            "SELECT id FROM information_schema.processlist WHERE command LIKE 'Binlog Dump%'"
        )
        return [number for (number,) in found]

    def insert(self, key: int, size: int = 10) -> None:
        self.server.query(f"INSERT INTO {self.schema}.t VALUES (%s, REPEAT('x', %s))", (key, size))

    def frames(self) -> Iterator[Frame]:
        assembler = Assembler(Counter())
        with contextlib.closing(open_topic(self.config, "a")) as topic:
            for message in topic.between(*topic.ends()):
                if (whole := assembler.take(decode_chunk(message))) is not None:
                    yield decode_frame(whole)

    def published(self) -> list[RawTransaction]:
        return [
            t
            for f in self.frames()
            for t in f.transactions
            if t.kind is not TransactionKind.SKIPPED
        ]

    def covered(self) -> GtidSet:
        return GtidSet.parse(self.publisher.progress.covered)


@pytest.fixture
def site(pair: Sandbox, kafka: KafkaCluster, schema: str, tmp_path: Path) -> Iterator[Site]:
    path = pair.write_config(
        tmp_path / "pair.toml",
        ConfigSpec(
            kafka=kafka,
            name=f"publisher-{schema}",
            start="now",
            apply={"transaction_stream_bytes": PART_BYTES},
        ),
    )
    assert cli.invoke(["migrate", "-c", str(path)]) == 0
    forget_streams(pair)
    assert cli.invoke(["migrate", "-c", str(path)]) == 0  # else the watcher notes the servers
    out = Site(pair, path, schema)
    out.server.query(f"CREATE DATABASE {schema}")
    out.server.query(f"CREATE TABLE {schema}.t (id INT PRIMARY KEY, a MEDIUMTEXT)")
    try:
        yield out
    finally:
        out.stop.set()
        for thread in out.threads:
            thread.join()
        out.server.query(f"DROP DATABASE {schema}")


class Writer:
    """A client that writes rows 1, 2, 3, …, a transaction each, some large, until told to stop."""

    def __init__(self, site: Site) -> None:
        self._site, self._stop = site, threading.Event()
        self.rows = 0
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._site.insert(self.rows + 1, 3 * PART_BYTES if self.rows % 7 == 3 else 10)
            self.rows += 1

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def more(self, count: int = 30) -> None:
        wanted = self.rows + count
        wait(lambda: self.rows >= wanted)


def test_who_comes_late_or_is_left_behind_catches_up_and_follows(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = site.native()
    site.start(site.publisher)  # alone: no watcher reads yet
    assert not site.follows()
    with Writer(site) as writer:
        writer.more()
        site.start(site.watcher)
        wait(site.follows, "it stays alone")
        wait(lambda: len(site.dumps()) == 1, "the binlog is read twice")
        writer.more()
        # The branch of the watcher finds no room.
        hold, send = threading.Event(), module._Session._send

        def held(session: module._Session, transactions: list[RawTransaction]) -> None:
            hold.wait(WAIT_S)
            send(session, transactions)

        sessions = site.publisher.progress.sessions
        monkeypatch.setattr(module._Session, "_send", held)
        wait(lambda: site.watcher.tee._branch is None, "nobody is left behind")
        writer.more()
        monkeypatch.setattr(module._Session, "_send", send)
        hold.set()
        wait(lambda: site.publisher.progress.sessions > sessions and site.follows())
        writer.more()
        # The link breaks from which both read.
        sessions = site.publisher.progress.sessions
        for number in site.dumps():
            site.server.query(f"KILL {number}")
        wait(lambda: site.publisher.progress.sessions > sessions and site.follows())
        writer.more()
    written = site.native() - before
    wait(lambda: written <= site.covered(), "something is not published")
    whole = [t for t in site.published() if t.last]
    assert GtidSet.of(t.gtid for t in whole) == written
    assert [t.gtid.gno for t in whole] == sorted({t.gtid.gno for t in whole})
    ets = [t.ets for t in whole]
    assert ets == sorted(set(ets))
    assert any(t.part for t in whole), "no transaction came in parts"


def test_what_was_decided_when_it_began_is_not_published(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Write a row that counts as decided while the watcher has not read the row yet."""
    start, holds = SourceSite.start, threading.Event()
    pass_on = site.watcher.tee.pass_on

    def held(transactions: list[RawTransaction]) -> None:
        holds.wait(WAIT_S)
        pass_on(transactions)

    def later(source: SourceSite) -> GtidSet:
        monkeypatch.setattr(site.watcher.tee, "pass_on", held)
        site.insert(1)
        return start(source) | site.native()

    monkeypatch.setattr(SourceSite, "start", later)
    site.start(site.watcher)
    site.start(site.publisher)
    decided = site.native()
    assert not site.follows()
    holds.set()
    site.insert(2)
    written = site.native()
    wait(lambda: written <= site.covered() and site.follows())
    assert GtidSet.of(t.gtid for t in site.published()) == written - decided


def test_its_own_reading_ends_where_its_branch_begins(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Write between the branch and the dump: both bring the rows, the dump in a single read."""
    before, read_first = site.executed(), SourceSite.read_first

    def later(source: SourceSite, *args: Any, **options: Any) -> Reader:
        for key in range(21, 41):
            site.insert(key)
        return read_first(source, *args, **options)

    monkeypatch.setattr(SourceSite, "start", lambda _: before.copy())
    monkeypatch.setattr(SourceSite, "read_first", later)
    site.start(site.watcher)
    for key in range(1, 21):
        site.insert(key)
    wait(lambda: site.native() <= (site.watcher.tee._already_read or GtidSet()))
    site.start(site.publisher)
    written = site.native() - before
    wait(lambda: written <= site.covered())
    assert site.follows()
    came = [t.gtid for t in site.published()]
    assert (len(came), GtidSet.of(came)) == (40, written)


def test_while_its_site_catches_up_frames_are_fewer(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_REST_BEHIND_S", 2.0)  # longer than twenty inserts take
    site.behind.set()
    before = site.native()
    site.start(site.publisher)
    for key in range(20):
        site.insert(key)
    written = site.native() - before
    wait(lambda: written <= site.covered(), "something is not published")
    counts = [len(frame.transactions) for frame in site.frames() if frame.transactions]
    assert sum(counts) == 20
    assert len(counts) <= 3
