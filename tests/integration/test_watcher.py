"""The watcher of a site: purged parts of the binlog, and a link that breaks."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from drc import mysql
from drc.cli import invoke
from drc.clock import Mark
from drc.config import Config, load
from drc.conflict.live import LiveIndex
from drc.gtid import GtidSet, parse_uuid
from drc.sandbox import ConfigSpec, Sandbox, SiteSpec
from drc.schema import ledger
from drc.site.watcher import Watcher, _Read
from drc.source.tagger import Tagger

ONE = "11111111-1111-1111-1111-111111111111"
OTHER = "22222222-2222-2222-2222-222222222222"

pytestmark = [pytest.mark.servers, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """Run servers for this file alone, as binlogs are purged."""
    with Sandbox(tmp_path_factory.mktemp("watcher"), die_with_parent=True) as box:
        box.up([SiteSpec("a", "9.7"), SiteSpec("b", "9.7")])
        yield box


@pytest.fixture
def config(sites: Sandbox, tmp_path: Path) -> Config:
    path = sites.write_config(tmp_path / "p.toml", ConfigSpec(start="now", name="watcher"))
    assert invoke(["migrate", "-c", str(path)]) == 0
    sites.sites["a"].query("DELETE FROM drc.ledger")  # no stream has begun
    return load(path)


def purge(sites: Sandbox) -> GtidSet:
    """Write at ``a`` and purge the writes from the binlog; return the purged set."""
    a = sites.sites["a"]
    before = GtidSet.parse(a.query("SELECT @@GLOBAL.gtid_executed")[0][0])
    a.query("CREATE DATABASE gone")
    a.query("DROP DATABASE gone")
    a.query("FLUSH BINARY LOGS")
    a.query("PURGE BINARY LOGS TO %s", (a.query("SHOW BINARY LOGS")[-1][0],))
    return GtidSet.parse(a.query("SELECT @@GLOBAL.gtid_purged")[0][0]) - before


@contextlib.contextmanager
def watched(config: Config) -> Iterator[tuple[LiveIndex, Watcher]]:
    stop = threading.Event()
    index = LiveIndex("a", config.sites, 1000)
    watcher = Watcher(config, "a", stop, index)
    thread = threading.Thread(target=watcher.run)
    thread.start()
    try:
        assert index.wait_fresh(30.0), watcher.progress.snapshot()
        yield index, watcher
    finally:
        stop.set()
        thread.join()


def test_before_the_first_stream_nothing_purged_is_missed(sites: Sandbox, config: Config) -> None:
    purge(sites)
    with watched(config) as (index, _):
        assert index.clean("b", {}, frozenset({1}))
    given = msgspec.structs.replace(config.replicate, start="earliest")
    with watched(msgspec.structs.replace(config, replicate=given)) as (index, _):
        assert index.rivals("b", {}, [1]).blind


def test_who_has_not_seen_what_was_purged_is_not_judged(sites: Sandbox, config: Config) -> None:
    with contextlib.closing(mysql.connect(config, "a", "applier")) as conn:
        ledger.create(conn, "b", GtidSet(), 0)
    gone = purge(sites)
    with watched(config) as (index, _):
        found = index.rivals("b", {}, [1])
        assert (found.writes, found.blind) == ((), True)
        assert not index.clean("b", {}, frozenset({1}))
        everything = GtidSet.parse(sites.sites["a"].query("SELECT @@GLOBAL.gtid_executed")[0][0])
        assert gone <= everything
        assert not index.rivals("b", {"a": everything}, [1]).blind
        index.advance("b", {"a": everything})
        assert not index.rivals("b", {}, [1]).blind


def wait(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_link_that_breaks_costs_a_link(sites: Sandbox, config: Config) -> None:
    """Break the link: the index keeps the writes, and the rest is read once."""
    a = sites.sites["a"]
    with watched(config) as (index, watcher):
        progress = watcher.progress
        read, held = progress.transactions, index.size().slots
        a.query("CREATE DATABASE kept")
        a.query("CREATE TABLE kept.t (id INT PRIMARY KEY)")
        for number in range(20):
            a.query(f"INSERT INTO kept.t VALUES ({number})")
        wait(lambda: progress.transactions == read + 20)
        wait(lambda: index.size().slots == held + 20)
        sessions = progress.sessions
        for (number,) in a.query(
            "SELECT id FROM information_schema.processlist WHERE command LIKE 'Binlog Dump%'"
        ):
            a.query(f"KILL {number}")
        a.query("INSERT INTO kept.t VALUES (20)")
        wait(lambda: progress.sessions > sessions and progress.state == "running")
        wait(lambda: index.size().slots == held + 21)
        assert progress.transactions == read + 21
        a.query("DROP DATABASE kept")


@pytest.mark.parametrize(
    ("uuid", "executed", "purged", "goes_on"),
    [
        (ONE, "1-9", "", True),
        (ONE, "1-9", "1-5", True),
        (OTHER, "1-9", "", False),  # another server has other positions
        (ONE, "1-4", "", False),  # the server lost transactions
        (ONE, "1-9", "1-7", False),  # the next transactions are purged
    ],
)
def test_where_the_next_session_may_read_on(
    config: Config, uuid: str, executed: str, purged: str, *, goes_on: bool
) -> None:
    def of(text: str) -> GtidSet:
        return GtidSet.parse(f"{ONE}:{text}") if text else GtidSet()

    facts = mysql.ServerFacts(
        version=(9, 7, 0),
        version_text="9.7.0",
        server_uuid=parse_uuid(uuid),
        server_id=1,
        gtid_executed=of(executed),
        gtid_purged=of(purged),
        read_only=False,
        has_tags=True,
    )
    tagger, nothing = Tagger((), Mark()), GtidSet()
    read = _Read(config, parse_uuid(ONE), of("1-5"), tagger, nothing, nothing)
    assert read.goes_on(config, facts) is goes_on
    assert not read.goes_on(msgspec.structs.replace(config), facts)


def test_what_is_selected_while_it_runs_is_in_the_index(sites: Sandbox, config: Config) -> None:
    a = sites.sites["a"]
    narrow = msgspec.structs.replace(config.replicate, exclude_tables=("chosen.t",))
    with watched(msgspec.structs.replace(config, replicate=narrow)) as (index, watcher):
        read, held = watcher.progress.transactions, index.size().slots
        a.query("CREATE DATABASE chosen")
        a.query("CREATE TABLE chosen.t (id INT PRIMARY KEY)")
        a.query("INSERT INTO chosen.t VALUES (1)")
        wait(lambda: watcher.progress.transactions == read + 1)
        assert index.size().slots == held
        with watcher.permit.withheld(10.0):
            watcher.config = config
        assert index.wait_fresh(30.0)
        assert index.size().slots == held + 1
        a.query("DROP DATABASE chosen")
